"""`python -m hearth_inference`: take deployments from the lane of the engine this node runs, until told to stop."""

from hearth_contracts.deploy import Engine
from hearth_jobs.config import RedisSettings
from hearth_jobs.connection import connect
from hearth_jobs.deployments import lane_for
from hearth_jobs.worker import work
from hearth_storage.config import HomeSettings
from hearth_storage.model_store import model_ids
from hearth_telemetry.logs import configure_logging
from hearth_telemetry.traces import configure_tracing

import hearth_inference.serve  # noqa: F401  # here, once, and not in each fork: it takes a second
from hearth_inference.config import InferenceSettings
from hearth_inference.turns import HOLDS


def main() -> None:
    """Read the settings and work."""
    settings = InferenceSettings()
    name = settings.worker_name or ("inference-llm" if settings.engine is Engine.VLLM else "inference-embedding")
    configure_logging(name)
    configure_tracing(name)
    store = HomeSettings().models
    work(
        connect(RedisSettings()),
        [lane_for(settings.engine).queue],
        name,
        says=lambda: {HOLDS: " ".join(model_ids(store))},
    )


if __name__ == "__main__":
    main()
