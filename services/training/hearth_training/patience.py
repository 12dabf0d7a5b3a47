"""An S3 server that is away ends no run: the run waits, says so, and goes on when the server is back."""

from collections.abc import Callable
from typing import TypeVar

from hearth_jobs.attempt import Attempt, WorkFailed
from hearth_storage.objects import REFUSALS, is_away
from minio.error import MinioException, S3Error
from tenacity import Retrying, retry_if_exception, stop_after_delay, wait_exponential
from urllib3.exceptions import HTTPError

T = TypeVar("T")


def patiently(attempt: Attempt, doing: str, work: Callable[[], T], seconds: float) -> T:
    """What `work` gives, which is called again while S3 is away, for so many seconds. `doing` is the job's stage.

    `work` may have begun before: it must do no harm when it is done twice. Raises WorkFailed, and what ends the attempt
    while it waits.
    """

    def try_it() -> T:
        attempt.report(stage=doing)
        return work()

    retrying = Retrying(
        retry=retry_if_exception(is_away),
        stop=stop_after_delay(seconds),
        wait=wait_exponential(multiplier=0.5, max=5),
        sleep=attempt.wait,
        before_sleep=lambda _: attempt.report(stage=f"waiting for S3: {doing}"),
        reraise=True,
    )
    try:
        return retrying(try_it)
    except (MinioException, HTTPError) as error:
        if isinstance(error, S3Error) and error.code in REFUSALS:
            raise WorkFailed(f"S3 refuses {doing}: {error.code}; check its keys") from error
        if not is_away(error):
            raise
        words = f"S3 was away for {seconds:.0f} s while {doing}; what was done is kept: resume when it is back"
        raise WorkFailed(words) from error
