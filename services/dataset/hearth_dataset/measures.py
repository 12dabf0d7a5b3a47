"""What the dataset service counts; names as Prometheus has them."""

from hearth_contracts.datasets import Dataset
from prometheus_client import Counter

FILES = Counter("hearth_dataset_files_total", "Files that were checked, and what became of them", ("outcome",))
BYTES = Counter("hearth_dataset_bytes_total", "Bytes of rows that were checked", ("outcome",))
ROWS = Counter("hearth_dataset_rows_total", "Rows that were stored", ("format",))
FAULTS = Counter("hearth_dataset_faults_total", "Faults that files were refused for, the first hundred of each file")

for outcome in ("stored", "refused"):  # known from the start, so that a rate can be told from the first one on
    FILES.labels(outcome)
    BYTES.labels(outcome)


def stored(dataset: Dataset) -> None:
    """A file was good."""
    FILES.labels("stored").inc()
    BYTES.labels("stored").inc(dataset.bytes)
    ROWS.labels(dataset.format).inc(dataset.rows)


def refused(size: int, faults: int) -> None:
    """A file had faults."""
    FILES.labels("refused").inc()
    BYTES.labels("refused").inc(size)
    FAULTS.inc(faults)
