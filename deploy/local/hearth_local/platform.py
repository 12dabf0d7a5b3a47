"""A platform on this machine: start it, stop it, ask how it is."""

import contextlib
import os
import shutil
import signal
import time
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from typing import Any
from xmlrpc.client import Error as RpcError
from xmlrpc.client import Fault

from hearth_jobs.guard import kill_all, relatives
from rich.console import Console

from hearth_local import supervisor
from hearth_local.checks import check_disk, check_environments, check_libraries, check_ports, check_socket_path
from hearth_local.config import CannotStart, Config, load_secrets
from hearth_local.models import EMBEDDING, ModelSourceError, embedding_source
from hearth_local.processes import POLL_SECONDS, alone, await_true, last_lines, memory_of_marked, memory_of_tree
from hearth_local.programs import PROGRAMS, Context, Program

START_SECONDS = 90.0
STOP_MARGIN_SECONDS = 15.0  # over what a program was promised

# supervisord's words for the states of a program; STARTING lasts a second, however soon it is ready
LIVES = {"RUNNING", "STARTING"}
STOPPED = {"STOPPED", "EXITED", "FATAL"}
DIED = {"EXITED", "BACKOFF", "FATAL"}


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
    """One platform under one HEARTH_HOME. Several may run at once, with homes and ports of their own."""

    config: Config
    programs: Sequence[Program] = PROGRAMS

    @staticmethod
    def from_environment() -> "Platform":
        """The platform that HEARTH_HOME and the HEARTH_*_PORT variables name. Raises CannotStart."""
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
        except (OSError, HTTPException, RpcError):
            return False

    def start(self, console: Console | None = None) -> None:
        """Start every program that does not run, in order, each when the one before it is ready.

        Raises CannotStart when one cannot be had; nothing is left running then, unless the platform was up before.
        """
        console = console or Console(quiet=True)
        with self._alone(console):
            was_up = self.is_up()
            try:
                if not was_up:
                    self._prepare(console)
                    self._spawn()
                self._start_programs(console)
            except BaseException:
                if not was_up:
                    self._stop(console)
                raise

    def stop(self, console: Console | None = None) -> None:
        """Stop every program, the stores last, and see that no process is left. Does nothing when it is down."""
        console = console or Console(quiet=True)
        if self.config.run.exists():
            with self._alone(console):
                self._stop(console)

    def status(self) -> list[ProgramStatus]:
        """How each program is; empty when the platform is down."""
        if not self.is_up():
            return []
        context = self._context()
        with supervisor.rpc(self.config) as rpc:
            infos = {info["name"]: info for info in rpc.getAllProcessInfo()}
        return [self._status_of(program, infos[program.name], context) for program in self.programs]

    def memory_bytes(self) -> int:
        """The memory of all its processes."""
        return memory_of_marked(self.config.mark)

    # -- start ---------------------------------------------------------------------------------------------------

    def _context(self) -> Context:
        return Context(self.config, load_secrets(self.config))

    @contextlib.contextmanager
    def _alone(self, console: Console) -> Iterator[None]:
        """Two who start or stop it at once take turns."""
        self.config.run.mkdir(parents=True, exist_ok=True)
        with alone(self.config.run / "lock", lambda: console.print("waiting for another `make up` or `make down`")):
            yield

    def _prepare(self, console: Console) -> None:
        """Everything that can be known to go wrong, before anything is started."""
        check_socket_path(Path(supervisor.socket_path(self.config)))
        for folder in ("logs/jobs", "models", "imports", "adapters", "runs"):
            (self.home / folder).mkdir(parents=True, exist_ok=True)
        environments = {name for program in self.programs for name in program.needs}
        check_environments(environments)
        check_libraries(environments)
        check_disk(self.config)
        if relatives(self.config.mark):  # the supervisor was killed: what it ran is just ending by itself
            console.print("waiting for the processes of the last run to end")
            self._await_nobody(self.programs)
        check_ports(self.config.ports, {program.port for program in self.programs if program.port})
        if any(program.imports for program in self.programs):
            self._place_embedding_model()

    def _place_embedding_model(self) -> None:
        """Put the packaged embedding model where management imports it from."""
        target = self.home / "imports" / EMBEDDING
        if target.exists():
            return
        scratch = target.with_name(f".{EMBEDDING}.partial")
        shutil.rmtree(scratch, ignore_errors=True)
        try:
            shutil.copytree(embedding_source(), scratch)
        except ModelSourceError as fault:
            raise CannotStart(str(fault)) from fault
        scratch.rename(target)

    def _spawn(self) -> None:
        supervisor.spawn(self._context(), self.programs)
        if not await_true(self.is_up, START_SECONDS):
            log = self.config.log_of("supervisor")
            raise CannotStart(f"supervisord does not answer; the end of {log}:\n{last_lines(log, 5)}")

    def _start_programs(self, console: Console) -> None:
        context = self._context()
        with supervisor.rpc(self.config) as rpc:
            for program in self.programs:
                began = time.monotonic()
                with console.status(f"starting {program.name}"):
                    try:
                        self._start_one(program, rpc)
                    except Fault as fault:
                        raise CannotStart(f"{program.name} could not be started: {fault.faultString}") from fault
                    self._await_ready(context, program, rpc)
                console.print(f"  [green]ready[/] {program.name} [dim]{time.monotonic() - began:.1f} s[/]")

    def _start_one(self, program: Program, rpc: Any) -> None:
        state = rpc.getProcessInfo(program.name)["statename"]
        if state in LIVES:
            return
        if state == "BACKOFF":  # it waits for its next try, and cannot be started meanwhile
            rpc.stopProcess(program.name)
        rpc.startProcess(program.name, False)

    def _await_ready(self, context: Context, program: Program, rpc: Any) -> None:
        """All it needs is there, so the first time that it ends is the last: it would end again."""
        deadline = time.monotonic() + START_SECONDS
        first = rpc.getProcessInfo(program.name)["pid"]
        while not _is_ready(context, program):
            info = rpc.getProcessInfo(program.name)
            fault = "ended" if info["statename"] in DIED or info["pid"] != first else ""
            if not fault and time.monotonic() > deadline:
                fault = f"was not ready after {START_SECONDS:.0f} s"
            if fault:
                log = self.config.log_of(program.name)
                raise CannotStart(f"{program.name} {fault}; the end of {log}:\n{last_lines(log, 10)}")
            time.sleep(POLL_SECONDS)

    # -- stop ----------------------------------------------------------------------------------------------------

    def _stop(self, console: Console) -> None:
        with console.status("stopping"):
            with contextlib.suppress(OSError, HTTPException, RpcError):
                if self.is_up():
                    with supervisor.rpc(self.config) as rpc:
                        self._stop_programs(rpc)
            self._end_supervisor()
            self._await_nobody(self.programs)

    def _stop_programs(self, rpc: Any) -> None:
        """The stores last, when nobody writes to them any more; the others all at once."""
        stores = {program.name for program in self.programs if program.is_store}
        others = {info["name"] for info in rpc.getAllProcessInfo()} - stores
        for group in (others, stores):
            for name in group:
                with contextlib.suppress(Fault):  # it does not run
                    rpc.stopProcess(name, False)
            seconds = _longest_stop([program for program in self.programs if program.name in group])
            await_true(lambda group=group: _have_stopped(group, rpc), seconds)  # type: ignore[misc]

    def _end_supervisor(self) -> None:
        """Ask it to end; also one that does not answer (any more, or yet)."""
        with contextlib.suppress(OSError, ValueError):
            pid = int(supervisor.pid_path(self.config).read_text())
            if pid in relatives(self.config.mark):  # or the file is old, and its number somebody else's by now
                os.kill(pid, signal.SIGTERM)

    def _await_nobody(self, programs: Sequence[Program]) -> None:
        """Until no process of the platform is left; those that take too long are killed."""
        if not await_true(lambda: not relatives(self.config.mark), _longest_stop(programs)):
            kill_all(lambda: relatives(self.config.mark))

    # -- status --------------------------------------------------------------------------------------------------

    def _status_of(self, program: Program, info: dict[str, Any], context: Context) -> ProgramStatus:
        lives = info["statename"] in LIVES
        return ProgramStatus(
            name=program.name,
            state=info["statename"],
            ready=lives and _is_ready(context, program),
            pid=info["pid"] or None,
            uptime_seconds=info["now"] - info["start"] if lives else 0,
            memory_bytes=memory_of_tree(info["pid"]) if info["pid"] else 0,
            port=self.config.ports[program.port] if program.port else None,
        )


def _is_ready(context: Context, program: Program) -> bool:
    try:
        return program.ready(context)
    except Exception:  # each client has exceptions of its own for "nobody there yet"
        return False


def _have_stopped(names: Collection[str], rpc: Any) -> bool:
    return all(info["statename"] in STOPPED for info in rpc.getAllProcessInfo() if info["name"] in names)


def _longest_stop(programs: Sequence[Program]) -> float:
    """Seconds after which a program that is to stop will not do so by itself."""
    return max((program.stop_seconds for program in programs), default=0) + STOP_MARGIN_SECONDS
