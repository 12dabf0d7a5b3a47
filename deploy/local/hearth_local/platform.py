"""A platform on this machine: start it, stop it, ask how it is."""

import contextlib
import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xmlrpc.client import Fault

import psutil
from rich.console import Console

from hearth_local import supervisor
from hearth_local.checks import CannotStart, check_disk, check_environments, check_ports, check_socket_path
from hearth_local.config import Config, load_secrets
from hearth_local.models import EMBEDDING, embedding_source
from hearth_local.programs import PROGRAMS, Context, Program

START_SECONDS = 60.0
POLL_SECONDS = 0.1
STOPPING = {"RUNNING", "STARTING", "STOPPING", "BACKOFF"}


@dataclass(frozen=True)
class ProgramStatus:
    """How one program is."""

    name: str
    state: str  # supervisord's word: RUNNING, BACKOFF, STOPPED, ...
    ready: bool
    pid: int | None
    uptime_seconds: float
    memory_bytes: int  # of the process and all below it
    port: int | None


@dataclass(frozen=True)
class Platform:
    """One platform under one HEARTH_HOME."""

    config: Config
    programs: Sequence[Program] = PROGRAMS

    @staticmethod
    def from_environment() -> "Platform":
        """The platform that HEARTH_HOME and the HEARTH_*_PORT variables name."""
        return Platform(Config.from_environment())

    @property
    def home(self) -> Path:
        """All its data."""
        return self.config.home

    @property
    def url(self) -> str:
        """Its public address."""
        return self.config.url

    def is_up(self) -> bool:
        """Whether its supervisor answers."""
        try:
            with supervisor.rpc(self.config) as rpc:
                return bool(rpc.getState()["statename"] == "RUNNING")
        except OSError:
            return False

    def start(self, console: Console) -> None:
        """Start every program in order, each when the one before it is ready.

        Raises CannotStart, with nothing left running, when one cannot be had. Does nothing when it is up.
        """
        if self.is_up():
            return
        self._prepare()
        context = Context(self.config, load_secrets(self.config))
        supervisor.spawn(context, self.programs)
        try:
            deadline = time.monotonic() + START_SECONDS
            while not self.is_up():
                if time.monotonic() > deadline:
                    raise CannotStart(f"supervisord does not answer: {_tail(self.config.log_of('supervisor'), 3)}")
                time.sleep(POLL_SECONDS)
            for program in self.programs:
                began = time.monotonic()
                with console.status(f"starting {program.name}"):
                    self._start_one(context, program)
                console.print(f"  [green]ready[/] {program.name} [dim]{time.monotonic() - began:.1f} s[/]")
        except BaseException:
            self.stop(console)
            raise

    def _prepare(self) -> None:
        for folder in ("run", "logs/jobs", "models", "imports", "adapters", "runs"):
            (self.home / folder).mkdir(parents=True, exist_ok=True)
        check_socket_path(Path(supervisor.socket_path(self.config)))
        check_environments()
        check_disk(self.config)
        check_ports(self.config)
        self._place_embedding_model()

    def _place_embedding_model(self) -> None:
        """Put the packaged embedding model where management imports it from."""
        target = self.home / "imports" / EMBEDDING
        if not target.exists():
            scratch = target.with_name(f".{EMBEDDING}.partial")
            shutil.rmtree(scratch, ignore_errors=True)
            shutil.copytree(embedding_source(), scratch)
            scratch.rename(target)

    def _start_one(self, context: Context, program: Program) -> None:
        with supervisor.rpc(self.config) as rpc:
            try:
                rpc.startProcess(program.name, False)
            except Fault as fault:
                raise CannotStart(f"{program.name} could not be started: {fault.faultString}") from fault
            self._await_ready(context, program, rpc)

    def _await_ready(self, context: Context, program: Program, rpc: Any) -> None:
        deadline = time.monotonic() + START_SECONDS
        while not _is_ready(context, program):
            state = rpc.getProcessInfo(program.name)["statename"]
            if state in {"FATAL", "EXITED"} or time.monotonic() > deadline:
                log = self.config.log_of(program.name)
                raise CannotStart(f"{program.name} does not get ready ({state}): {_tail(log, 5)}\n  its log: {log}")
            time.sleep(POLL_SECONDS)

    def stop(self, console: Console) -> None:
        """Stop every program, last started first, and see that no process is left. Does nothing when it is down."""
        family = self._family()
        if self.is_up():
            with console.status("stopping"), supervisor.rpc(self.config) as rpc:
                self._stop_programs(rpc)
                with contextlib.suppress(OSError):
                    rpc.shutdown()
                psutil.wait_procs(family[:1], timeout=30)
        _, left = psutil.wait_procs(family, timeout=10)
        for process in left:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        psutil.wait_procs(left, timeout=10)

    def _stop_programs(self, rpc: Any) -> None:
        """The stores last, when nobody writes to them any more; the others all at once."""
        stores = [program for program in self.programs if program.is_store]
        for group in ([program for program in self.programs if not program.is_store], stores):
            for program in reversed(group):
                with contextlib.suppress(Fault):  # it was not running
                    rpc.stopProcess(program.name, False)
            names = {program.name for program in group}
            deadline = time.monotonic() + max((program.stop_seconds for program in group), default=0) + 15
            while any(i["name"] in names and i["statename"] in STOPPING for i in rpc.getAllProcessInfo()):
                if time.monotonic() > deadline:
                    break  # the shutdown that follows kills what is left
                time.sleep(POLL_SECONDS)

    def _family(self) -> list[psutil.Process]:
        """supervisord, and everything below it."""
        try:
            pid = int((self.config.run / "supervisor.pid").read_text())
            process = psutil.Process(pid)
            if "supervisord" not in " ".join(process.cmdline()):
                return []  # the file is old, and its number somebody else's by now
            return [process, *process.children(recursive=True)]
        except (FileNotFoundError, ValueError, psutil.NoSuchProcess):
            return []

    def memory_bytes(self) -> int:
        """The memory of all its processes (proportional set size)."""
        return sum(_memory(process) for process in self._family())

    def status(self) -> list[ProgramStatus]:
        """How each program is; empty when the platform is down."""
        if not self.is_up():
            return []
        context = Context(self.config, load_secrets(self.config))
        with supervisor.rpc(self.config) as rpc:
            infos = {info["name"]: info for info in rpc.getAllProcessInfo()}
        found = []
        for program in self.programs:
            info = infos[program.name]
            running = info["statename"] == "RUNNING"
            found.append(
                ProgramStatus(
                    name=program.name,
                    state=info["statename"],
                    ready=running and _is_ready(context, program),
                    pid=info["pid"] or None,
                    uptime_seconds=info["now"] - info["start"] if running else 0,
                    memory_bytes=_tree_memory(info["pid"]) if info["pid"] else 0,
                    port=self.config.ports[program.port] if program.port else None,
                )
            )
        return found


def _is_ready(context: Context, program: Program) -> bool:
    try:
        return program.ready(context)
    except Exception:  # each client has exceptions of its own for "nobody there yet"
        return False


def _memory(process: psutil.Process) -> int:
    try:
        return int(process.memory_full_info().pss)
    except (psutil.NoSuchProcess, psutil.AccessDenied):
        return 0


def _tree_memory(pid: int) -> int:
    try:
        process = psutil.Process(pid)
        return sum(_memory(each) for each in [process, *process.children(recursive=True)])
    except psutil.NoSuchProcess:
        return 0


def _tail(path: Path, lines: int) -> str:
    if not path.exists():
        return "(no log)"
    return " | ".join(line.strip() for line in path.read_text(errors="replace").splitlines()[-lines:])
