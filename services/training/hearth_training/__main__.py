"""`python -m hearth_training`: take fine-tune jobs until told to stop."""

from hearth_jobs.config import RedisSettings
from hearth_jobs.connection import connect
from hearth_jobs.queues import TRAINING, TRAINING_ON_A_CLUSTER
from hearth_jobs.worker import work
from hearth_telemetry.logs import configure_logging
from hearth_telemetry.traces import configure_tracing

from hearth_training.config import TrainingSettings
from hearth_training.spare import make_ready


def main() -> None:
    """Run the worker."""
    configure_logging("training")
    configure_tracing("training")
    executor = TrainingSettings().training_executor
    lanes = (TRAINING_ON_A_CLUSTER, TRAINING) if executor == "ray" else (TRAINING,)
    queues = [lane.queue for lane in lanes]
    work(connect(RedisSettings()), queues, "training", make_ready, lambda: {"executor": executor})


if __name__ == "__main__":
    main()
