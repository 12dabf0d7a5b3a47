"""How an engine is, looked at in a thread of its own, since the node's main thread may be waiting for that engine."""

import logging
import subprocess
import threading
import time
from typing import Any

import httpx
from hearth_contracts.deploy import DeploymentSpec, EngineLoad

from hearth_inference.engines.base import EngineDriver, EngineRefused
from hearth_inference.plan import Phase

log = logging.getLogger(__name__)

LOOK_SECONDS = 1.0
PROBE_SECONDS = 3.0
"""How often an engine that shows no work done is asked for a token: its health check would not tell that it hangs."""
SILENT_SECONDS = 15.0
"""Without a sign of life for so long it does not answer: the node's report says so, and nobody is sent there."""
HUNG_SECONDS = 30.0
"""Without one for so long it is ended, and another started."""


class Health:
    """Looks at one engine until it ends. What it finds is read without waiting."""

    def __init__(self, process: "subprocess.Popen[Any]", driver: EngineDriver, url: str, spec: DeploymentSpec) -> None:
        self.fault = ""
        """Why it counts as dead though it may still run."""
        self.load: EngineLoad | None = None
        """What it had to do when last looked at; None until it serves."""
        self._process = process
        self._driver = driver
        self._spec = spec
        self._client = httpx.Client(base_url=url, timeout=SILENT_SECONDS, trust_env=False)
        self._serves = False  # requests are sent to it: from then on silence is a fault
        self._good = False  # its health check was good when it was last asked
        self._heard = self._probed = time.monotonic()
        self._done = -1.0
        self._looked = self._heard
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="health", daemon=True)
        self._thread.start()

    @property
    def phase(self) -> Phase:
        """Where it stands."""
        if self._process.poll() is not None or self.fault:
            return Phase.DEAD
        silent = self._serves and time.monotonic() - self._heard > SILENT_SECONDS
        return Phase.ANSWERS if self._good and not silent else Phase.STARTING

    def serves(self) -> None:
        """It has answered a real request, and is to go on doing so."""
        self._heard, self._good, self._serves = time.monotonic(), True, True

    def kill(self, reason: str) -> None:
        """End it at once. Whoever waits for its answer gets an error; its processes are cleared away when stopped."""
        self.fault = self.fault or reason
        self._process.kill()

    def stop(self) -> None:
        """Look no more."""
        self._over.set()
        self._thread.join(2 * SILENT_SECONDS)
        self._client.close()

    def _run(self) -> None:
        while not self._over.wait(LOOK_SECONDS) and self._process.poll() is None and not self.fault:
            try:
                self._look()
            except (httpx.HTTPError, EngineRefused, ValueError, KeyError) as error:
                if self._serves:
                    log.info("engine of %s gave no sign of life: %r", self._spec.model_id, error)
            silence = time.monotonic() - self._heard
            if self._serves and silence > HUNG_SECONDS and not self._over.is_set():
                self.kill(f"it did not answer for {silence:.0f} s")

    def _look(self) -> None:
        reply = self._client.get(self._driver.health_path, timeout=SILENT_SECONDS / 2)
        self._good = reply.is_success
        if not self._serves:
            return
        if not reply.is_success:
            self.kill(f"its health check says {reply.status_code}")
            return
        work, now = self._driver.work(self._client), time.monotonic()
        done_since, seconds = work.done - self._done, now - self._looked
        if self._done >= 0:
            running = max(done_since, 0.0) / seconds if work.running is None else work.running
            self.load = EngineLoad(running=running, waiting=work.waiting)
        self._done, self._looked = work.done, now
        if done_since:
            self._heard = now
        elif time.monotonic() - self._probed > PROBE_SECONDS:
            self._probed = time.monotonic()
            self._driver.warm_up(self._client, self._spec.served_name)
            self._heard = time.monotonic()
