"""The node: carries out, one small step at a time, what `plan` says."""

import contextlib
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import httpx
from hearth_contracts.deploy import DeploymentSpec, DeploymentState, NodeReport
from hearth_contracts.jobs import JobStatus
from hearth_jobs.attempt import WorkFailed
from hearth_jobs.config import LEASE_SECONDS
from hearth_jobs.deployments import Deployment, DeploymentStore
from hearth_jobs.store import ClaimRefused, JobMissing, JobStore, StaleAttempt
from hearth_storage.config import HomeSettings
from hearth_storage.model_store import find_model, snapshot_path
from minio import Minio
from redis.exceptions import RedisError

from hearth_inference.adapters import fetch_all
from hearth_inference.config import InferenceSettings
from hearth_inference.engines.base import EngineDriver, EngineRefused
from hearth_inference.keeper import Keeper
from hearth_inference.memory import available_bytes
from hearth_inference.plan import Phase, Step, View, plan, same_base
from hearth_inference.process import EngineProcess

log = logging.getLogger(__name__)

_CLAIM_PATIENCE_SECONDS = LEASE_SECONDS + 5
_STABLE_SECONDS = 300.0
_MAX_BACKOFF_SECONDS = 60.0


@dataclass
class Node:
    """Looks after one deployment. All methods are for one thread; each `tick` starts again from the record."""

    name: str
    settings: InferenceSettings
    home: HomeSettings
    driver: EngineDriver
    deployments: DeploymentStore
    jobs: JobStore
    s3: Minio
    keeper: Keeper
    node_id: str
    served_elsewhere: Callable[[], bool]
    serving: EngineProcess | None = None
    coming: EngineProcess | None = None
    failures: int = 0  # in a row
    not_before: float = 0.0  # no new start until then (monotonic)
    waiting_since: float | None = None  # for a claim
    detail: str = ""
    served: set[str] = field(default_factory=set)  # jobs whose version has answered requests

    def tick(self) -> bool:
        """One step. False when the node has nothing more to do here. Raises RedisError when Redis is away."""
        record = self._heed_interrupts(self.deployments.get(self.name))
        desired = record.desired if record and record.desired else None
        if desired is not None and desired.engine is not self.settings.engine:
            desired = None
        if desired is not None and record is not None:
            if desired.job_id not in self.keeper.held():
                return self._claim(desired)
            self.waiting_since = None
            self._hold_serving(record)
        serving, coming = self._view(self.serving), self._view(self.coming)
        room = self._room(desired, serving)
        step = plan(desired, serving, coming, room=room)
        if desired is None or step is Step.LEAVE:
            return False
        self._take(step, desired, record)
        self._end_orphans(self.deployments.get(self.name))
        self._report(desired)
        return True

    # -- jobs ------------------------------------------------------------------------------------------------

    def _heed_interrupts(self, record: Deployment | None) -> Deployment | None:
        """A DEPLOY job that was interrupted, by whatever way, takes its version off what is desired."""
        if record is None or record.desired is None or record.desired.job_id not in self.keeper.interrupted():
            return record
        if record.serving is None or record.serving.generation == record.desired.generation:
            self.deployments.undeploy(self.name)
        else:
            self.deployments.give_up(record.desired, "interrupted")
        return self.deployments.get(self.name)

    def _claim(self, desired: DeploymentSpec) -> bool:
        """Try to become the one who carries this version. False when somebody else is."""
        self.waiting_since = self.waiting_since or time.monotonic()
        try:
            self.keeper.hold(desired.job_id, self.jobs.claim(desired.job_id, self.node_id))
            return True
        except JobMissing:
            self.deployments.give_up(desired, "its job is not there any more; deploy again")
            return True
        except ClaimRefused as refusal:
            if (status := self.jobs.get(desired.job_id).status).is_over:
                self.deployments.give_up(desired, f"its job is {status}; deploy again")
                return True
            # a dead node's claim ends with its lease; a living one's does not
            goes_on = time.monotonic() - self.waiting_since < _CLAIM_PATIENCE_SECONDS and not self.served_elsewhere()
            if not goes_on:
                log.info("left to another node: %s", refusal)
            return goes_on

    def _hold_serving(self, record: Deployment) -> None:
        """Keep the job of the version that serves, or served before a restart: it is not over until replaced."""
        if record.serving is None:
            return
        self.served.add(record.serving.job_id)
        if record.serving.job_id not in self.keeper.held():
            with contextlib.suppress(ClaimRefused, JobMissing):  # over, or its dead holder's lease has not ended yet
                self.keeper.hold(record.serving.job_id, self.jobs.claim(record.serving.job_id, self.node_id))

    def _end_orphans(self, record: Deployment | None) -> None:
        """End the jobs whose version is neither desired nor served: FINISHED if it ever served, else KILLED."""
        specs = [record.desired, record.serving] if record and record.desired else []
        engines = [engine.spec for engine in (self.serving, self.coming) if engine is not None]
        wanted = {spec.job_id for spec in (*specs, *engines) if spec is not None}
        for job_id in self.keeper.held().keys() - wanted:
            replaced = job_id in self.served and bool(specs)
            self._finish(job_id, JobStatus.FINISHED if replaced else JobStatus.KILLED)

    def _finish(self, job_id: str, status: JobStatus, words: str | None = None) -> None:
        attempt = self.keeper.held().get(job_id)
        if attempt is None:
            return
        try:
            self.jobs.finish(job_id, attempt, status, words)
        except StaleAttempt as stale:
            log.warning("job %s was not ended here: %s", job_id, stale)
        self.keeper.let_go(job_id)
        self._note(job_id, f"{status}: {words}" if words else str(status))

    def _stage(self, spec: DeploymentSpec, stage: str, progress: float) -> None:
        self.detail = stage
        self._note(spec.job_id, stage)
        attempt = self.keeper.held().get(spec.job_id)
        if attempt is not None:
            try:
                self.jobs.report(spec.job_id, attempt, stage=stage, progress=progress)
            except StaleAttempt:
                self.keeper.let_go(spec.job_id)

    def _note(self, job_id: str, line: str) -> None:
        log.info("%s: job %s: %s", self.name, job_id, line)
        path = self.home.job_log(job_id)
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a", encoding="utf-8") as out:
            out.write(line + "\n")

    # -- steps -----------------------------------------------------------------------------------------------

    def _take(self, step: Step, desired: DeploymentSpec, record: Deployment | None) -> None:
        if step in (Step.START, Step.SWAP, Step.STOP_FIRST) and time.monotonic() < self.not_before:
            return
        try:
            if step is Step.START:
                self._start(desired)
            elif step is Step.STOP_FIRST:
                self._stop_first(desired)
            elif step is Step.PROMOTE:
                self._promote(desired)
            elif step is Step.SWAP:
                self._swap(desired)
            elif step is Step.DISCARD:
                self._stop_coming()
            elif step is Step.BURY:
                self._bury(desired, record)
            elif step is Step.FAILED and (dead := self._stop_coming()) is not None:
                raise WorkFailed(f"the engine ended before it answered: {dead.words()}")
        except WorkFailed as failure:
            self._failed(desired, record, str(failure))
        except (EngineRefused, httpx.HTTPError) as error:
            words = str(error) or type(error).__name__
            if step is Step.PROMOTE:
                self._stop_coming()
            self._failed(desired, record, f"the engine refused: {words}")

    def _start(self, spec: DeploymentSpec) -> None:
        self._stage(spec, f"starting the engine for {spec.model_id}", 0.1)
        model = find_model(self.home.models, spec.model_id)
        if model is None:
            raise WorkFailed(f"model {spec.model_id!r} is not in the model store; add it with POST /v1/models/add/")
        self._adapters(spec)  # what is wrong with them is better known before the engine's long start
        scratch = self.home.home.absolute() / "run" / f"engine-{self.name}"
        log_path = self.home.logs / f"engine-{self.name}.log"
        try:
            path = snapshot_path(self.home.models, model)
            self.coming = EngineProcess(self.driver, spec, path, scratch=scratch, log=log_path)
        except (OSError, ValueError) as error:
            raise WorkFailed(f"the engine for {spec.model_id!r} could not be started: {error}") from error
        self.keeper.watch(self.coming)

    def _stop_first(self, desired: DeploymentSpec) -> None:
        self._stage(desired, "stopping the engine before it: there is no room for both", 0.05)
        old, self.serving = self.serving, None
        self._report(desired)  # nobody is to be sent to it any more
        self._stopped(old, drain=True)

    def _promote(self, desired: DeploymentSpec) -> None:
        assert self.coming is not None
        self._stage(desired, "warming up", 0.8)
        self.coming.warm_up((desired.served_name,))
        self.coming.change_adapters(self._adapters(desired))
        if not self.deployments.settle(desired):
            return  # something newer is desired: the next tick sees what
        old, self.serving, self.coming = self.serving, self.coming, None
        self.serving.spec = desired
        self.serving.ready_since = time.monotonic()
        self._serves(desired)
        self._stopped(old, drain=True)

    def _swap(self, desired: DeploymentSpec) -> None:
        assert self.serving is not None
        self.serving.change_adapters(self._adapters(desired))
        if not self.deployments.settle(desired):
            return
        self.serving.spec = desired
        self._serves(desired)
        try:
            self.serving.drop_adapters(desired.adapter_ids)
        except (EngineRefused, httpx.HTTPError) as error:
            log.warning("adapters that are not deployed any more stay in the engine: %s", error)

    def _serves(self, spec: DeploymentSpec) -> None:
        """This version answers requests from now on: tell the routes first."""
        self._stage(spec, "serving", 1.0)
        self.detail = ""
        self.served.add(spec.job_id)
        self._report(spec)

    def _bury(self, desired: DeploymentSpec, record: Deployment | None) -> None:
        assert self.serving is not None
        dead, self.serving = self.serving, None
        self._report(desired)
        self._stopped(dead)
        if dead.ready_since is not None and time.monotonic() - dead.ready_since > _STABLE_SECONDS:
            self.failures = 0
        if same_base(dead.spec, desired):
            self._failed(desired, record, f"the engine died while it served: {dead.words()}")

    def _failed(self, desired: DeploymentSpec, record: Deployment | None, words: str) -> None:
        """Try again later what has served before; give up what has not, and what failed too often."""
        proven = record is not None and record.serving is not None and record.serving == desired
        if proven and self.failures < self.settings.engine_max_restarts:
            self.failures += 1
            pause = min(_MAX_BACKOFF_SECONDS, 0.5 * 2.0**self.failures)
            self.not_before = time.monotonic() + pause
            self._stage(desired, f"starting again in {pause:.0f} s, try {self.failures}: {words}", 0.0)
            return
        if proven:
            words = f"failed {self.failures + 1} times in a row, the last time: {words}"
        self.failures, self.not_before = 0, 0.0
        self._finish(desired.job_id, JobStatus.FAILED, words)
        self.deployments.give_up(desired, words)

    # -- engines ---------------------------------------------------------------------------------------------

    def _view(self, engine: EngineProcess | None) -> View | None:
        if engine is None:
            return None
        view = engine.view()
        seconds = self.settings.engine_start_seconds
        if engine is self.coming and view.phase is Phase.STARTING and time.monotonic() - engine.started > seconds:
            engine.fault = f"it did not answer within {seconds:.0f} s (HEARTH_ENGINE_START_SECONDS)"
            return View(view.spec, Phase.DEAD)
        return view

    def _adapters(self, spec: DeploymentSpec) -> dict[str, Path]:
        return fetch_all(self.s3, spec, self.home.adapters, self.settings.max_lora_rank)

    def _room(self, desired: DeploymentSpec | None, serving: View | None) -> bool:
        """Whether another engine fits beside the one that serves."""
        if desired is None or serving is None or same_base(desired, serving.spec):
            return True
        model = find_model(self.home.models, desired.model_id)
        if model is None:
            return True  # it will not be started, and so must not cost the one that serves
        needed = self.driver.memory_needed(snapshot_path(self.home.models, model))
        return needed is not None and needed <= available_bytes()

    def _stopped(self, engine: EngineProcess | None, *, drain: bool = False) -> None:
        """Stop an engine, with all its processes."""
        if engine is not None:
            if drain:
                engine.drain(self.settings.engine_grace_seconds)
            code = engine.stop()
            self.keeper.forget(engine)
            log.info("%s: engine %s stopped with code %d", self.name, engine.url, code)

    def _stop_coming(self) -> EngineProcess | None:
        """Stop the engine that was being started. Returns it, for its last words."""
        stopped, self.coming = self.coming, None
        self._stopped(stopped)
        return stopped

    def _report(self, desired: DeploymentSpec, state: DeploymentState | None = None) -> None:
        """Say what the node does; READY only when the engine's health check is good right now."""
        engine = self.serving
        phase = engine.view().phase if engine is not None and state is None else None
        answers = state or (DeploymentState.READY if phase is Phase.ANSWERS else DeploymentState.LOADING)
        spec = engine.spec if engine is not None else desired
        self.keeper.report(
            NodeReport(
                node_id=self.node_id,
                deployment=self.name,
                engine=spec.engine,
                state=answers,
                url=engine.url if engine is not None and answers is not DeploymentState.LOADING else "",
                models=(spec.served_name, spec.model_id, *spec.adapter_ids) if engine is not None else (),
                adapter_ids=spec.adapter_ids,
                model_id=spec.model_id,
                generation=spec.generation,
                detail=self.detail,
            )
        )

    # -- the end ---------------------------------------------------------------------------------------------

    def broke(self, error: Exception) -> None:
        """Something in the node itself failed: give up the version it worked on, or it would be tried forever."""
        words = f"unexpected {type(error).__name__}: {error}. This is a bug in Hearth; the node's log has the details"
        try:
            record = self.deployments.get(self.name)
            if record is not None and record.desired is not None and record.desired.job_id in self.keeper.held():
                self._finish(record.desired.job_id, JobStatus.FAILED, words)
                self.deployments.give_up(record.desired, words)
        except RedisError:
            log.warning("Redis is away: not recorded that the deployment failed")

    def shut_down(self) -> None:
        """Stop every engine; then, when no process is left, end the jobs nobody wants, and give the others back."""
        try:
            if self.serving is not None:
                self._report(self.serving.spec, DeploymentState.DRAINING)
        except RedisError:
            log.warning("Redis is away: the routes may lead here until this node's lease ends")
        self._stop_coming()
        old, self.serving = self.serving, None
        self._stopped(old, drain=True)
        try:
            self.keeper.withdraw()
            self._end_orphans(self.deployments.get(self.name))
            for job_id in self.keeper.held():
                attempt = self.keeper.let_go(job_id)
                if attempt is not None:
                    self.jobs.release(job_id, attempt, "waiting for an inference node: its worker was stopped")
        except StaleAttempt as stale:
            log.warning("not given back: %s", stale)
        except RedisError:
            log.warning("Redis is away: the jobs held here go on when their leases end")
