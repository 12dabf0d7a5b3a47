"""The doctor for a platform elsewhere (compose, a cluster): what can be seen of it through its public address.

Redis and S3 are looked at too where HEARTH_REDIS_URL and HEARTH_S3_ENDPOINT name them, as they do for the services.
"""

import os
import time
from collections.abc import Callable, Iterator, Sized
from email.utils import parsedate_to_datetime

import httpx
from hearth_client import Forbidden, Hearth, HearthClientError, Unauthorized
from hearth_contracts.deploy import DeploymentState
from hearth_contracts.system import Space
from hearth_jobs.config import RedisSettings
from hearth_local.doctor.machine import GIB, SCARCE_DISK_GIB
from hearth_local.doctor.stores import Mends, clock, redis_findings, s3_findings
from hearth_local.findings import Finding, Verdict, fault, ok, warning
from hearth_local.text import gib
from hearth_storage.config import S3Settings
from hearth_storage.objects import connect as connect_s3
from redis import Redis
from redis.backoff import NoBackoff
from redis.retry import Retry

SECONDS = 5.0
COARSE_SKEW_SECONDS = 3.0
"""HTTP's Date has whole seconds, and the answer was under way."""

LOGS = "its log says why: `docker compose logs`, or `kubectl logs`"


def examine_elsewhere(client: Hearth) -> list[Finding]:
    """Everything that was looked at, in the order to mend it."""
    found = [*reach(client)]
    if found[0].verdict is Verdict.OK:
        found += access(client)
    return [*found, *stores()]


def reach(client: Hearth) -> Iterator[Finding]:
    """Whether it answers, is ready, and has our time."""
    settings = client.settings
    try:
        with httpx.Client(mounts=settings.direct, timeout=SECONDS) as http:
            asked = time.time()
            reply = http.get(f"{settings.url}/health/ready")
            took = time.time() - asked
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        yield fault("platform", f"{settings.url} does not answer: {error}", _mend(error))
        return
    try:
        said = str(reply.json()["status"])
    except (ValueError, KeyError, TypeError):
        found = f"{settings.url} answered {reply.status_code} with what is not Hearth's"
        yield fault("platform", found, "set HEARTH_URL to the gateway's address, without /v1 or /api")
        return
    if reply.status_code == httpx.codes.OK:
        yield ok("platform", f"{settings.url} is ready, and answered in {took * 1000:.0f} ms")
    else:
        yield fault("platform", f"{settings.url} is not ready: {said}", f"see to what it waits for; {LOGS}")
    if "date" in reply.headers:
        theirs = parsedate_to_datetime(reply.headers["date"]).timestamp() + 0.5
        yield clock("its machine", theirs - (asked + took / 2), COARSE_SKEW_SECONDS)


def _mend(error: Exception) -> str:
    if "CERTIFICATE_VERIFY_FAILED" in str(error):
        return "name the certificate's authority with SSL_CERT_FILE, or use the name that the certificate is for"
    if isinstance(error, httpx.TimeoutException):
        return "is a firewall between? else the gateway hangs, and its guard ends it within a minute"
    return "check HEARTH_URL; is the gateway up, and published on that address (HEARTH_PUBLISHED_HOST)?"


def access(client: Hearth) -> Iterator[Finding]:
    """What the API says of the machine, the queues and the deployments, if it lets us."""
    try:
        system = client.system.look()
        deployments = client.deploy.list()
    except (Unauthorized, Forbidden) as error:
        yield fault("key", error.what, "set HEARTH_API_KEY to a key with the role admin (`hearth keys`)")
        return
    except HearthClientError as error:
        yield fault("management", str(error), LOGS)
        return
    yield ok("key", "it may look" if client.settings.api_key else "none is needed")
    yield _listed("models", client.models.list)
    yield _listed("datasets", client.datasets.list)
    yield _disk(system.disk)
    yield ok("memory", f"{gib(system.memory.free_bytes)} of {gib(system.memory.total_bytes)} free")
    gpus = [f"{gib(gpu.free_bytes)} of {gib(gpu.total_bytes)} free" for gpu in system.gpus]
    yield ok("gpu", "; ".join(gpus) or "management's machine has none, or does not see it")
    for queue in system.queues:
        name = f"queue {queue.queue}"
        if queue.workers:
            yield ok(name, f"{queue.waiting} waiting, {queue.workers} workers")
        else:
            verdict = fault if queue.waiting else warning
            yield verdict(name, f"{queue.waiting} waiting, and nobody takes from it", f"start its worker; {LOGS}")
    for each in deployments:
        name = f"deployment {each.name}"
        status = each.status
        if status is None:
            yield ok(name, "nothing is deployed")
        elif status.state is DeploymentState.FAILED:
            yield fault(name, f"{status.model_id}: {status.detail}", f"`hearth jobs logs {status.job.id}` says more")
        elif status.state is DeploymentState.READY:
            yield ok(name, f"{status.model_id} answers as {each.served_name}")
        else:
            yield warning(name, f"{status.model_id} is {status.state}: {status.detail}", "`hearth deploy status -w`")


def _listed(name: str, listing: Callable[[], Sized]) -> Finding:
    try:
        return ok(name, f"{len(listing())} are listed")
    except HearthClientError as error:
        return fault(name, error.what, f"S3 holds adapters and datasets; is it up? {LOGS}")


def _disk(space: Space) -> Finding:
    found = f"{gib(space.free_bytes)} of {gib(space.total_bytes)} free where models lie"
    if space.free_bytes < SCARCE_DISK_GIB * GIB:
        return warning("disk", found, "free some, or delete models that are not needed: they take several GiB each")
    return ok("disk", found)


def stores() -> Iterator[Finding]:
    """Redis and S3, where the environment names them."""
    looks: dict[str, Callable[[], Iterator[Finding]]] = {"HEARTH_REDIS_URL": _redis, "HEARTH_S3_ENDPOINT": _s3}
    for variable, look in looks.items():
        if os.environ.get(variable):
            yield from look()


def _redis() -> Iterator[Finding]:
    url = RedisSettings().redis_url.get_secret_value()
    mends = Mends(refused="set HEARTH_REDIS_URL with its password", away="check HEARTH_REDIS_URL; does it run?")
    try:
        client = Redis.from_url(
            url, socket_timeout=SECONDS, socket_connect_timeout=SECONDS, retry=Retry(NoBackoff(), 0)
        )
    except ValueError as error:
        yield fault("redis", f"HEARTH_REDIS_URL is no address of a Redis: {error}", "redis://:password@host:6379/0")
        return
    where = client.connection_pool.connection_kwargs
    yield from redis_findings(client, f"{where.get('host')}:{where.get('port', 6379)}", mends)


def _s3() -> Iterator[Finding]:
    settings = S3Settings()
    keys = "set HEARTH_S3_ACCESS_KEY and HEARTH_S3_SECRET_KEY to its keys"
    mends = Mends(refused=keys, away="check HEARTH_S3_ENDPOINT (host:port) and HEARTH_S3_SECURE; does it run?")
    yield from s3_findings(connect_s3(settings), settings.s3_endpoint, mends)
