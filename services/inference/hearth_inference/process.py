"""One running engine: its guarded process, its address, its log."""

import contextlib
import os
import socket
import threading
import time
from pathlib import Path

import httpx
from hearth_contracts.deploy import DeploymentSpec
from hearth_jobs.config import GUARD_HEARTBEAT_SECONDS
from hearth_jobs.guard import end, guarded

from hearth_inference.engines.base import EngineDriver, EngineRefused, last_words
from hearth_inference.plan import Phase, View

_STOP_SECONDS = 10.0
_REQUEST_SECONDS = 120.0
_HEALTH_SECONDS = 2.0
_HUNG_SECONDS = 60.0
_LOG_BYTES = 64 * 1024 * 1024
_TAIL_BYTES = 256 * 1024


class EngineProcess:
    """An engine from its start to its end. Start it from the thread that lives as long as it should."""

    def __init__(
        self, driver: EngineDriver, spec: DeploymentSpec, model: Path, *, host: str, scratch: Path, log: Path
    ) -> None:
        """Start it on a free port of `host`. Raises OSError, ValueError when it cannot be started at all."""
        self.driver = driver
        self.spec = spec
        port = _free_port(host)
        self.url = f"http://{host}:{port}"
        self.started = time.monotonic()
        self.ready_since: float | None = None
        self.fault = ""
        """Why it counts as dead though it may still run."""
        self._heard = self.started
        self.log = log
        scratch.mkdir(parents=True, exist_ok=True)
        log.parent.mkdir(parents=True, exist_ok=True)
        if log.exists() and log.stat().st_size > _LOG_BYTES:
            os.replace(log, log.with_suffix(".log.1"))
        with log.open("ab") as out:
            self._log_start = out.tell()
            self._process = guarded(
                driver.command(spec, model, port),
                grace=_STOP_SECONDS,
                heartbeat=GUARD_HEARTBEAT_SECONDS,
                stdout=out,
                stderr=out,
                env=driver.environment(scratch),
                cwd=scratch,
            )
        self.client = httpx.Client(base_url=self.url, timeout=_REQUEST_SECONDS, trust_env=False)
        self._stdin_lock = threading.Lock()

    def feed(self) -> None:
        """Show the guard that the node is alive and not hung; call it more often than the heartbeat."""
        with self._stdin_lock, contextlib.suppress(BrokenPipeError, ValueError):
            assert self._process.stdin is not None
            self._process.stdin.write(b"\n")
            self._process.stdin.flush()

    def view(self) -> View:
        """How it is right now: asks its health check."""
        return View(self.spec, self._phase())

    def _phase(self) -> Phase:
        if self._process.poll() is not None or self.fault:
            return Phase.DEAD
        try:
            reply = self.client.get(self.driver.health_path, timeout=_HEALTH_SECONDS)
        except httpx.TimeoutException:
            return self._silent(Phase.STARTING if self.ready_since is None else Phase.ANSWERS)  # busy, perhaps
        except httpx.HTTPError:
            # before it listens that is as it should be; after, its process is about to end
            return Phase.STARTING if self.ready_since is None else self._silent(Phase.STARTING)
        if reply.is_success:
            self._heard = time.monotonic()
            return Phase.ANSWERS
        if self.ready_since is not None:
            self.fault = f"its health check says {reply.status_code}"
            return Phase.DEAD
        return Phase.STARTING

    def _silent(self, otherwise: Phase) -> Phase:
        if self.ready_since is not None and time.monotonic() - self._heard > _HUNG_SECONDS:
            self.fault = f"it did not answer its health check for {_HUNG_SECONDS:.0f} s"
            return Phase.DEAD
        return otherwise

    def warm_up(self, model_names: tuple[str, ...]) -> None:
        """Have a real request answered by each name. Raises EngineRefused, httpx.HTTPError."""
        for name in model_names:
            self.driver.warm_up(self.client, name)

    def change_adapters(self, folders: dict[str, Path]) -> None:
        """Load those it does not have yet, each proved by a request. Undone when one fails.

        Those it has beyond that stay: `drop_adapters` is for when nobody is sent to them any more.
        Raises EngineRefused, httpx.HTTPError.
        """
        have = self.driver.adapters(self.client, self.spec)
        loaded: list[str] = []
        try:
            for adapter_id, folder in folders.items():
                if adapter_id not in have:
                    loaded.append(adapter_id)
                    self.driver.load_adapter(self.client, adapter_id, folder)
                    self.driver.warm_up(self.client, adapter_id)
            if missing := set(folders) - self.driver.adapters(self.client, self.spec):
                raise EngineRefused(f"adapters {', '.join(sorted(missing))} are not there after they were loaded")
        except (EngineRefused, httpx.HTTPError):
            for adapter_id in loaded:
                with contextlib.suppress(EngineRefused, httpx.HTTPError):
                    self.driver.unload_adapter(self.client, adapter_id)
            raise

    def drop_adapters(self, keep: tuple[str, ...]) -> None:
        """Unload all but these. Raises EngineRefused, httpx.HTTPError."""
        for adapter_id in sorted(self.driver.adapters(self.client, self.spec) - set(keep)):
            self.driver.unload_adapter(self.client, adapter_id)

    def drain(self, seconds: float) -> None:
        """Wait until it works on no request, at most so long."""
        deadline = time.monotonic() + seconds
        with contextlib.suppress(EngineRefused, httpx.HTTPError):  # it is dead: nothing to wait for
            while self.driver.requests_in_flight(self.client) and time.monotonic() < deadline:
                time.sleep(0.1)

    def stop(self) -> int:
        """End it and every process of it; nothing is left when this returns. Returns its exit code."""
        code = end(self._process, _STOP_SECONDS)
        with self._stdin_lock, contextlib.suppress(BrokenPipeError):
            assert self._process.stdin is not None
            self._process.stdin.close()
        self.client.close()
        return code

    def words(self) -> str:
        """Why it is dead, in words for a user."""
        code = self._process.poll()
        if self.fault and code is None:
            return self.fault
        with self.log.open("rb") as file:
            file.seek(max(self._log_start, self.log.stat().st_size - _TAIL_BYTES))
            said = last_words(file.read().decode(errors="replace"))
        if code in (137, -9):
            said = f"it was killed, most likely for want of memory; before that it said: {said}"
        return f"{said} (the engine's log: {self.log})"


def _free_port(host: str) -> int:
    with socket.socket() as probe:
        probe.bind((host, 0))
        return int(probe.getsockname()[1])
