"""`python -m hearth_inference`: take deployments from the lane of the engine this node runs, until told to stop."""

from hearth_contracts.deploy import Engine
from hearth_jobs.config import RedisSettings
from hearth_jobs.connection import connect
from hearth_jobs.deployments import lane_for
from hearth_jobs.worker import work
from hearth_telemetry.logs import configure_logging
from hearth_telemetry.traces import configure_tracing

from hearth_inference.config import InferenceSettings


def main() -> None:
    """Read the settings and work."""
    settings = InferenceSettings()
    name = settings.worker_name or ("inference-llm" if settings.engine is Engine.VLLM else "inference-embedding")
    configure_logging(name)
    configure_tracing(name)
    work(connect(RedisSettings()), lane_for(settings.engine).queue, name)


if __name__ == "__main__":
    main()
