"""docker compose, whichever is here: version 2, or docker-compose 1.29.

    compose.py WORDS...

`up` first pulls the images that are not ours and not here, since building takes minutes, and says which there are none
of. Standard library alone.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[2]
OURS = "hearth/"
"""Images of this name are built."""
BUILDKIT = {"DOCKER_BUILDKIT": "1", "COMPOSE_DOCKER_CLI_BUILD": "1"}
"""Has 1.29 build with it, as version 2 does."""
NONE_TO_PULL = """compose: not here, and not to be pulled: {images}
Without a registry: load them from a bundle (docs/install.md, "Without a network"). Or do without some: in .env
COMPOSE_PROFILES is {now}; minio may be seaweedfs, which is built here, and monitoring is Prometheus and Grafana."""


def program() -> list[str]:
    """How compose is called on this machine. Raises SystemExit where none is."""
    version_2 = ["docker", "compose"]
    if shutil.which("docker") and _said([*version_2, "version"]) is not None:
        return version_2
    if shutil.which("docker-compose"):
        return ["docker-compose"]
    raise SystemExit("compose: neither `docker compose` nor `docker-compose` is on this machine")


def profiles(dotenv: str) -> list[str]:
    """Those that are switched on, by the environment or else by .env, whose text this is."""
    found = re.findall(r"^COMPOSE_PROFILES=(.*)$", dotenv, re.MULTILINE)
    return os.environ.get("COMPOSE_PROFILES", found[-1] if found else "").split(",")


def images(config: str, switched_on: list[str]) -> list[str]:
    """What the services of these profiles, and those of none, are made of. `config` is what `compose config` says."""
    found = set()
    for service in re.split(r"^  (?=\S)", config, flags=re.MULTILINE):
        image = re.search(r"^    image: (\S+)$", service, re.MULTILINE)
        only = re.search(r"^    profiles:\n((?: +- \S+\n)+)", service, re.MULTILINE)
        if image and (only is None or set(re.findall(r"- (\S+)", only[1])) & set(switched_on)):
            found.add(image[1])
    return sorted(found)


def fetch(compose: list[str]) -> None:
    """Pull what is not here. Raises SystemExit where that fails, or no Docker Engine answers."""
    if _said(["docker", "info"]) is None:
        raise SystemExit("compose: no Docker Engine answers (`docker info`): start it, or see who may use it")
    dotenv = CHECKOUT / ".env"
    switched_on = profiles(dotenv.read_text(encoding="utf-8") if dotenv.exists() else "")
    config = _said([*compose, "config"])
    if config is None:
        return  # compose itself says what is wrong with it
    named = [each for each in images(config, switched_on) if not each.startswith(OURS)]
    absent = [each for each in named if _said(["docker", "image", "inspect", each]) is None]
    refused = [each for each in absent if subprocess.run(["docker", "pull", each], check=False).returncode != 0]
    if refused:
        raise SystemExit(NONE_TO_PULL.format(images=", ".join(refused), now=",".join(switched_on)))


def _said(words: list[str]) -> str | None:
    """What a command says; None where it fails."""
    done = subprocess.run(words, cwd=CHECKOUT, capture_output=True, text=True, check=False)
    return done.stdout if done.returncode == 0 else None


def main(words: list[str]) -> None:
    """Become compose."""
    compose = program()
    if words[:1] == ["up"]:
        fetch(compose)
    os.chdir(CHECKOUT)
    os.execvpe(compose[0], [*compose, *words], {**os.environ, **BUILDKIT})


if __name__ == "__main__":
    main(sys.argv[1:])
