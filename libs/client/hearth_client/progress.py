"""How far something is, and a bar that shows it."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import NoReturn

from hearth_contracts.jobs import Job
from tqdm import tqdm


@dataclass(frozen=True)
class Progress:
    """How far it is."""

    done: float
    total: float  # bytes of a transfer; 1 of a job
    stage: str  # what is being done, in words
    eta_seconds: float | None = None  # where the platform can tell
    resume_id: str = ""  # of an upload: what goes on with it


OnProgress = Callable[[Progress], None]
Shown = bool | OnProgress
"""True: a bar on standard error. A function: called each time something is new."""


def of_job(job: Job) -> Progress:
    """A job's progress."""
    return Progress(job.progress, 1, f"{job.name}: {job.stage}", job.eta_seconds)


@contextmanager
def telling(shown: Shown) -> Iterator[OnProgress]:
    """What to call with each progress."""
    if callable(shown):
        yield shown
    elif not shown:
        yield lambda _progress: None
    else:
        bar = _Bar()
        try:
            yield bar
        finally:
            bar.close()


class _Bar:
    def __init__(self) -> None:
        self._bar: tqdm[NoReturn] | None = None

    def __call__(self, progress: Progress) -> None:
        if self._bar is None:
            self._bar = _bytes_bar(progress.total) if progress.total > 1 else _share_bar()
        bar = self._bar
        bar.set_description_str(progress.stage, refresh=False)
        if progress.eta_seconds is not None:
            left = tqdm.format_interval(max(0.0, progress.eta_seconds))
            bar.set_postfix_str(f"{left} left", refresh=False)
        else:
            bar.set_postfix_str("", refresh=False)
        bar.n = progress.done
        bar.refresh()

    def close(self) -> None:
        if self._bar is not None:
            self._bar.close()


def _share_bar() -> "tqdm[NoReturn]":
    form = "{desc} {percentage:3.0f}%|{bar}| {elapsed}{postfix}"
    return tqdm(total=1, bar_format=form, file=sys.stderr, dynamic_ncols=True)


def _bytes_bar(total: float) -> "tqdm[NoReturn]":
    return tqdm(total=total, unit="B", unit_scale=True, unit_divisor=1024, file=sys.stderr, dynamic_ncols=True)
