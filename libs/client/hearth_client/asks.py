"""The requests that more than one part of the client makes."""

from hearth_contracts.deploy import NamedDeployment
from hearth_contracts.finetune import FinetuneMetrics, FinetuneStatus, Metric
from hearth_contracts.jobs import Job

from hearth_client.request import Follow, Request, begin, get, post, reading, text


def job(job_id: str) -> Request[Job]:
    """A job as it is now."""
    return get(f"/jobs/{job_id}/status/", Job)


def interrupt(job_id: str) -> Request[Job]:
    """Stop a job; one that is over is answered as it is."""
    return post(f"/jobs/{job_id}/interrupt/", Job, repeatable=True)


def logs(job_id: str) -> Request[str]:
    """The end of a job's log."""
    return Request("GET", f"/jobs/{job_id}/logs/", text, repeatable=True)


def log_lines(job_id: str) -> Follow[str]:
    """A job's log as it comes."""
    return Follow(f"/jobs/{job_id}/logs/", text, params={"follow": "true"})


def finetune(finetune_id: str) -> Request[FinetuneStatus]:
    """A fine-tune as it is now."""
    return get(f"/finetune/{finetune_id}/", FinetuneStatus)


def metrics(finetune_id: str, after: int) -> Request[FinetuneMetrics]:
    """The curve of a fine-tune behind a step."""
    return get(f"/finetune/{finetune_id}/metrics/", FinetuneMetrics, after=after)


def metric_events(finetune_id: str, after: int) -> Follow[Metric]:
    """The steps of a fine-tune as they come."""
    return Follow(f"/finetune/{finetune_id}/metrics/", reading(Metric), params={"follow": "true", "after": after})


def resume(finetune_id: str) -> Request[Job]:
    """Go on with a fine-tune from its last checkpoint."""
    return begin("POST", f"/finetune/{finetune_id}/resume/", Job)


def deployment(name: str) -> Request[NamedDeployment]:
    """A deployment, and what is served under its name."""
    return get(f"/deployments/{name}/", NamedDeployment)
