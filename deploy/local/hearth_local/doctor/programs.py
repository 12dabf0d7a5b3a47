"""Checks of the platform: its stores and programs while it is up, what is left of it while it is down."""

import contextlib
import time
from collections.abc import Iterator

import httpx
from hearth_jobs.guard import relatives
from redis.exceptions import AuthenticationError, RedisError

from hearth_local.config import gateway_tls, load_secrets
from hearth_local.findings import Finding, fault, ok, warning
from hearth_local.platform import Platform
from hearth_local.processes import last_lines
from hearth_local.programs import Context, s3_client
from hearth_local.text import span

SKEW_SECONDS = 1.0
"""Leases are counted on Redis's clock, times of records on ours."""

SLOW_SECONDS = 0.5
OLD_PASSWORD = "`hearth down`, then `hearth up`: it starts with the passwords of secrets.env"
HTTP_PORTS = ("management", "dataset", "gateway")


def supervisor(platform: Platform) -> Iterator[Finding]:
    """Whether it is up at all."""
    if platform.is_up():
        yield ok("platform", f"up at {platform.url}")
    else:
        yield warning("platform", f"down ({platform.home})", "`hearth up` starts it")


def leftovers(platform: Platform) -> Iterator[Finding]:
    """Processes without a supervisor: they end by themselves in seconds, or something is wrong."""
    if pids := relatives(platform.config.mark):
        found = f"processes of the last run are still there: {', '.join(map(str, sorted(pids)))}"
        yield warning("processes", found, "`hearth down` waits for them and kills those that stay")


def redis(platform: Platform) -> Iterator[Finding]:
    """Whether it answers with our password, keeps what it is given, and has our time."""
    context = _context(platform)
    port = platform.config.ports["redis"]
    try:
        with context.redis() as client:
            asked = time.time()
            began = time.monotonic()
            seconds, microseconds = client.time()
            took = time.monotonic() - began
            persistence = client.info("persistence")
            version = client.info("server").get("valkey_version") or client.info("server")["redis_version"]
    except AuthenticationError as error:
        yield fault("redis", f"port {port} refuses our password: {error}", OLD_PASSWORD)
        return
    except RedisError as error:
        yield fault(
            "redis", f"does not answer on port {port}: {error}", "`hearth logs valkey` says why; `hearth up` starts it"
        )
        return
    if took > SLOW_SECONDS:
        yield warning("redis", f"took {took:.1f} s to answer", "is the machine short of memory or its disk busy?")
    if persistence.get("aof_last_write_status", "ok") != "ok":
        yield fault("redis", "cannot write its log to disk", "free some of the disk that HEARTH_HOME lies on")
    yield ok("redis", f"version {version} answers on port {port}")
    skew = seconds + microseconds / 1e6 - (asked + took / 2)
    if abs(skew) > SKEW_SECONDS:
        yield fault("clock", f"Redis's clock is {skew:+.1f} s off ours", "set both by NTP (timedatectl set-ntp true)")
    else:
        yield ok("clock", f"Redis's is {abs(skew) * 1000:.0f} ms from ours")


def s3(platform: Platform) -> Iterator[Finding]:
    """Whether it answers with our keys, if it is one of the platform's own."""
    if all(program.port != "s3" for program in platform.programs):
        return
    port = platform.config.ports["s3"]
    try:
        buckets = [bucket.name for bucket in s3_client(_context(platform)).list_buckets()]
    except Exception as error:  # the SDK has exceptions of its own, its HTTP library's come through
        refused = "AccessDenied" in str(error) or "InvalidAccessKeyId" in str(error) or "Signature" in str(error)
        remedy = OLD_PASSWORD if refused else "`hearth logs s3` says why; `hearth up` starts it"
        yield fault("s3", f"port {port} does not answer us: {str(error)[:200]}", remedy)
    else:
        yield ok("s3", f"answers on port {port}; buckets: {', '.join(sorted(buckets)) or 'none yet'}")


def programs(platform: Platform) -> Iterator[Finding]:
    """Each program, and what it waits for."""
    for program in platform.status():
        check = f"program {program.name}"
        if program.ready:
            yield ok(check, f"ready, up for {span(program.uptime_seconds)}")
            continue
        why = _away(platform, program.name) or last_lines(platform.config.log_of(program.name), 1).strip()
        found = f"{program.state}, not ready" + (f": {why}" if why else "")
        yield fault(check, found, f"`hearth logs {program.name}` says more; `hearth up` starts what does not run")


def _context(platform: Platform) -> Context:
    return Context(platform.config, load_secrets(platform.config))


def _away(platform: Platform, name: str) -> str:
    """What a service says that it waits for."""
    if name not in HTTP_PORTS:
        return ""
    with contextlib.suppress(httpx.HTTPError, ValueError, AttributeError):
        health = health_of(platform, name).json()
        return f"waits for {', '.join(health.get('away', ())) or health['status']}"
    return ""


def health_of(platform: Platform, name: str) -> httpx.Response:
    """A service's own word on its readiness. Raises httpx.HTTPError."""
    base = platform.url if name == "gateway" else f"http://127.0.0.1:{platform.config.ports[name]}"
    return httpx.get(f"{base}/health/ready", timeout=5, trust_env=False, verify=gateway_tls(platform.config))
