"""One running engine: its guarded process, its address, its log."""

import contextlib
import os
import socket
import time
from pathlib import Path

import httpx
from hearth_contracts.deploy import DeploymentSpec
from hearth_jobs.oom import oom_kills, wanted_memory

from hearth_inference.engines.base import EngineDriver, EngineRefused, StartStage, last_words
from hearth_inference.guarded import GuardedProcess
from hearth_inference.health import Health
from hearth_inference.plan import Phase, View

_STOP_SECONDS = 10.0
_REQUEST_SECONDS = 120.0
_ROUTES_SECONDS = 2.0
"""After so long every gateway has read where requests go now."""
_LOG_BYTES = 64 * 1024 * 1024
_TAIL_BYTES = 256 * 1024


class EngineProcess(GuardedProcess):
    """An engine from its start to its end."""

    def __init__(
        self, driver: EngineDriver, spec: DeploymentSpec, model: Path, *, host: str, scratch: Path, log: Path
    ) -> None:
        """Start it on a free port of `host`. Raises OSError, ValueError when it cannot be started at all."""
        self.driver = driver
        self.spec = spec
        port = _free_port(host)
        self.url = f"http://{host}:{port}"
        self.health_url = self.url + driver.health_path
        self._oom_kills = oom_kills()
        self.started = time.monotonic()
        self.ready_since: float | None = None
        self.log = log
        scratch.mkdir(parents=True, exist_ok=True)
        log.parent.mkdir(parents=True, exist_ok=True)
        if log.exists() and log.stat().st_size > _LOG_BYTES:
            os.replace(log, log.with_suffix(".log.1"))
        with log.open("ab") as out:
            self._log_start = out.tell()
            super().__init__(
                driver.command(spec, model, port),
                grace=_STOP_SECONDS,
                stdout=out,
                stderr=out,
                env=driver.environment(spec, scratch),
                cwd=scratch,
            )
        self.client = httpx.Client(base_url=self.url, timeout=_REQUEST_SECONDS, trust_env=False)
        self.health = Health(self._process, driver, self.url, spec)

    def interrupt(self, job_id: str) -> None:
        """End it if it is of this job and does not serve yet: the main thread may be waiting for its first answer."""
        if self.spec.job_id == job_id and not self.ready_since:
            self.health.kill("interrupted")

    def view(self) -> View:
        """How it is, as far as is known right now."""
        return View(self.spec, self.health.phase)

    def start_stage(self) -> StartStage | None:
        """What it does before it answers, as far as it tells."""
        return self.driver.start_stage(self._said())

    def count_from_now(self) -> None:
        """Until now it waited for others: no part of how long its start takes."""
        self.started = time.monotonic()

    def answers(self) -> bool:
        """Whether a request sent now would be answered."""
        return self.health.phase is Phase.ANSWERS

    def serves(self, spec: DeploymentSpec) -> None:
        """It answers requests for this version from now on."""
        self.spec = spec
        self.ready_since = self.ready_since or time.monotonic()
        self.health.serves()

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
        """Wait until it works on no request, and none has come for as long as a gateway may not know yet."""
        deadline = time.monotonic() + seconds
        idle_since = time.monotonic()
        with contextlib.suppress(EngineRefused, httpx.HTTPError):  # it is dead: nothing to wait for
            while time.monotonic() < min(deadline, idle_since + _ROUTES_SECONDS) and self.answers():
                if self.driver.requests_in_flight(self.client):
                    idle_since = time.monotonic()
                time.sleep(0.1)

    def stop(self) -> int:
        """See GuardedProcess."""
        code = super().stop()
        self.health.stop()
        self.client.close()
        return code

    def words(self) -> str:
        """Why it is dead, in words for a user."""
        code = self._process.poll()
        if self.health.fault:
            return self.health.fault
        said = last_words(self._said())
        if code in (137, -9):
            why = {True: "for want of memory", False: "by somebody", None: "most likely for want of memory"}
            said = f"it was killed, {why[wanted_memory(self._oom_kills)]}; before that it said: {said}"
        return f"{said} (the engine's log: {self.log})"

    def _said(self) -> str:
        """The end of its log; nothing where somebody took the log away, or the disk with it."""
        try:
            with self.log.open("rb") as file:
                file.seek(max(self._log_start, self.log.stat().st_size - _TAIL_BYTES))
                return file.read().decode(errors="replace")
        except OSError:
            return ""


def _free_port(host: str) -> int:
    with socket.socket() as probe:
        probe.bind((host, 0))
        return int(probe.getsockname()[1])
