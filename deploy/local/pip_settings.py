"""What pip is configured with on this machine, as the variables that uv reads: mirrors, wheel folders, certificates.

Standard library alone: `setup_envs.py` uses it before anything is installed. `pip_settings.py COMMAND...` runs a
command with these variables.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

SECTIONS = ("global", "install", ":env:")
"""What holds for `pip install`, the stronger later, as pip has it."""


def pip_config(pythons: list[Path]) -> str:
    """`pip config list` of the first of these Pythons that has a pip; Debian's own has none unless one asks for it."""
    for python in pythons:
        command = [str(python), "-m", "pip", "config", "list"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode == 0:
            return done.stdout
    return ""


def as_uv_reads_it(listed: str, environment: dict[str, str]) -> dict[str, str]:
    """The variables for uv, less those that `environment` sets already.

    Further indexes are safe to mix in, since every file must have the hash that its lock names; the strategy lets a
    package be found on each of them.
    """
    settings = _settings(listed)
    found = {}
    if links := settings.get("find-links"):
        found["UV_FIND_LINKS"] = ",".join(links)
    if index := settings.get("index-url"):
        found["UV_DEFAULT_INDEX"] = index[-1]
    if extra := settings.get("extra-index-url"):
        found["UV_INDEX"] = " ".join(extra)
        found["UV_INDEX_STRATEGY"] = "unsafe-best-match"
    if hosts := settings.get("trusted-host"):
        found["UV_INSECURE_HOST"] = " ".join(hosts)
    if certificates := settings.get("cert"):
        found["SSL_CERT_FILE"] = certificates[-1]
    if proxy := settings.get("proxy"):
        found["ALL_PROXY"] = proxy[-1]
    if settings.get("no-index", ["false"])[-1].lower() in {"1", "true", "yes", "on"}:
        found["UV_NO_INDEX"] = "1"
    return {name: value for name, value in found.items() if name not in environment}


def for_uv(pythons: list[Path]) -> dict[str, str]:
    """The variables for uv on this machine."""
    return as_uv_reads_it(pip_config(pythons), dict(os.environ))


def _settings(listed: str) -> dict[str, list[str]]:
    """Each setting's values. A stronger section replaces a weaker one's."""
    found: dict[str, tuple[int, list[str]]] = {}
    for line in listed.splitlines():
        key, _, value = line.partition("=")
        section, _, name = key.rpartition(".")
        if section not in SECTIONS:
            continue
        words = list(dict.fromkeys(value.strip("'\"").replace("\\n", " ").split()))
        strength = SECTIONS.index(section)
        if strength >= found.get(name, (-1, []))[0]:
            found[name] = (strength, words)
    return {name: words for name, (_, words) in found.items()}


if __name__ == "__main__":
    os.execvpe(sys.argv[1], sys.argv[1:], {**os.environ, **for_uv([Path(sys.executable)])})
