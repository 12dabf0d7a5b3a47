"""Checks of this machine's platform: its stores and programs while it is up, what is left of it while it is down."""

import contextlib
from collections.abc import Iterator

import httpx
from hearth_jobs.guard import relatives

from hearth_local.config import gateway_tls, load_secrets
from hearth_local.doctor.stores import Mends, redis_findings, s3_findings
from hearth_local.findings import Finding, fault, ok, warning
from hearth_local.platform import Platform
from hearth_local.processes import last_lines
from hearth_local.programs import Context, s3_client
from hearth_local.text import span

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
    mends = Mends(refused=OLD_PASSWORD, away="`hearth logs valkey` says why; `hearth up` starts it")
    yield from redis_findings(_context(platform).redis(), f"port {platform.config.ports['redis']}", mends)


def s3(platform: Platform) -> Iterator[Finding]:
    """Whether it answers with our keys, if it is one of the platform's own."""
    if any(program.port == "s3" for program in platform.programs):
        mends = Mends(refused=OLD_PASSWORD, away="`hearth logs s3` says why; `hearth up` starts it")
        yield from s3_findings(s3_client(_context(platform)), f"port {platform.config.ports['s3']}", mends)


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
