"""The support bundle: what somebody who helps needs to know, without secrets, prompts or rows.

A tar.gz of JSON files and ends of logs. Everything passes the scrubber on its way in, so that nothing can be added here
that does not.
"""

import io
import os
import platform as machine
import sys
import tarfile
import time
from collections.abc import Callable
from importlib.metadata import distributions
from pathlib import Path
from typing import Any

import httpx
import psutil
from hearth_contracts.base import now
from hearth_fit.machine import look
from hearth_jobs.deployments import DeploymentStore
from hearth_jobs.listing import Wanted, list_jobs
from hearth_jobs.nodes import NodeRegistry
from hearth_jobs.store import JobStore
from pydantic_core import to_json

from hearth_local.config import load_secrets
from hearth_local.doctor import examine
from hearth_local.doctor.machine import ENGINES, installed
from hearth_local.doctor.programs import HTTP_PORTS, health_of
from hearth_local.platform import Platform
from hearth_local.programs import Context
from hearth_local.scrub import Scrubber, scrubber_of

MOST_JOBS = 200
LOG_LINES = 500
LOG_BYTES = 512 * 1024
"""Read from the end of each log at most."""


def write_bundle(platform: Platform, target: Path) -> list[str]:
    """Write it, for its owner alone; returns the names of what is in it. A part that cannot be had says why instead."""
    scrubber = scrubber_of(platform.config)
    names: list[str] = []
    descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as file, tarfile.open(fileobj=file, mode="w:gz") as tar:
        for name, gather in _parts(platform, scrubber).items():
            try:
                part = gather()
            except Exception as error:  # whatever is broken here is what the bundle is for
                part = {"not to be had": repr(error)}
            text = part if isinstance(part, str) else to_json(part, indent=2).decode()
            _add(tar, name, scrubber.text(text).encode())
            names.append(name)
    return names


def _add(tar: tarfile.TarFile, name: str, body: bytes) -> None:
    entry = tarfile.TarInfo(f"hearth-support/{name}")
    entry.size, entry.mtime, entry.mode = len(body), int(time.time()), 0o600
    tar.addfile(entry, io.BytesIO(body))


def _parts(platform: Platform, scrubber: Scrubber) -> dict[str, Callable[[], Any]]:
    """What is in it: name and how it is had."""
    logs = sorted(platform.config.logs.glob("*.log"))
    return {
        "about.json": _about,
        "settings.json": lambda: {
            "home": str(platform.home),
            "ports": platform.config.ports.by_name,
            "environment": scrubber.settings({**os.environ, **platform.config.extra_env}),
        },
        "doctor.json": lambda: examine(platform),
        "programs.json": platform.status,
        **{f"health/{name}.json": _health(platform, name) for name in HTTP_PORTS},
        "jobs.json": lambda: _records(platform),
        **{f"logs/{path.name}": _end_of(path) for path in logs},
    }


def _about() -> dict[str, Any]:
    """Versions and machine."""
    return {
        "made_at": now(),
        "python": sys.version,
        "system": machine.uname()._asdict() | {"node": ""},
        "cpus": psutil.cpu_count(),
        "memory_and_gpus": look(),
        "packages": {found.name: found.version for found in distributions()},
        "engines": {name: {package: installed(name).get(package) for package in ENGINES[name]} for name in ENGINES},
    }


def _health(platform: Platform, name: str) -> Callable[[], dict[str, Any]]:
    def ask() -> dict[str, Any]:
        reply: httpx.Response = health_of(platform, name)
        return {"status": reply.status_code, "body": reply.json()}

    return ask


def _records(platform: Platform) -> dict[str, Any]:
    """The newest jobs, what is to be served, and what is. No rows and no prompts are in Redis."""
    with Context(platform.config, load_secrets(platform.config)).redis() as redis:
        jobs = JobStore(redis)
        return {
            "jobs": list_jobs(jobs, Wanted(), MOST_JOBS).jobs,
            "deployments": DeploymentStore(redis, jobs).all(),
            "nodes": NodeRegistry(redis).live(),
        }


def _end_of(path: Path) -> Callable[[], str]:
    def read() -> str:
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - LOG_BYTES))
            return "\n".join(file.read().decode(errors="replace").splitlines()[-LOG_LINES:]) + "\n"

    return read
