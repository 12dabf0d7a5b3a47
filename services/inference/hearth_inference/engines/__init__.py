"""What the node knows of each engine: how it is started, asked, and told to load adapters."""

from hearth_contracts.deploy import Engine

from hearth_inference.config import InferenceSettings
from hearth_inference.engines.base import EngineDriver
from hearth_inference.engines.infinity import InfinityDriver
from hearth_inference.engines.vllm import VllmDriver


def driver_for(settings: InferenceSettings) -> EngineDriver:
    """The driver of the engine that the settings name."""
    return VllmDriver(settings) if settings.engine is Engine.VLLM else InfinityDriver(settings)
