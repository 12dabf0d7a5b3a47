"""The node: carries out, one small step at a time, what `plan` says."""

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import httpx
from hearth_contracts.deploy import DeploymentSpec, DeploymentState
from hearth_contracts.jobs import JobStatus
from hearth_jobs import tallies
from hearth_jobs.attempt import WorkFailed
from hearth_jobs.deployment_record import Deployment
from hearth_jobs.deployments import DeploymentStore
from hearth_jobs.tallies import Tally
from hearth_storage.config import HomeSettings
from minio import Minio
from redis.exceptions import RedisError

from hearth_inference.adapters import StoreAway, fetch_all, unless_interrupted
from hearth_inference.bringing import HubAway, ModelMissing
from hearth_inference.config import InferenceSettings
from hearth_inference.engines.base import EngineDriver, EngineRefused
from hearth_inference.holdings import ASLEEP, STOPPED, Holdings
from hearth_inference.keeper import Keeper
from hearth_inference.launch import fits_beside, launch
from hearth_inference.plan import Phase, Step, View, plan, same_base
from hearth_inference.process import EngineProcess
from hearth_inference.report import report_of
from hearth_inference.weights import Weights

log = logging.getLogger(__name__)

_STABLE_SECONDS = 300.0
_MAX_BACKOFF_SECONDS = 60.0
_MANY_FAILURES = 10  # from then on the pauses are the longest there are
_STORE_PAUSE_SECONDS = 2.0
_HUB_PAUSE_SECONDS = 10.0


class NoRoom(WorkFailed):
    """An engine found no room on a cluster for so long that it gave up."""


@dataclass
class Node:
    """Looks after one replica of a deployment. For one thread; each `tick` starts again from the record."""

    name: str
    settings: InferenceSettings
    home: HomeSettings
    driver: EngineDriver
    deployments: DeploymentStore
    s3: Minio
    keeper: Keeper
    holdings: Holdings
    may_leave: Callable[[], bool] = lambda: False  # whether a free worker might get a model that this node could not
    left: str = ""  # why the replica is for such a one
    serving: EngineProcess | None = None
    coming: EngineProcess | None = None
    failures: int = 0  # in a row
    not_before: float = 0.0  # no new start until then (monotonic)
    detail: str = ""
    steady_job: str = ""

    def __post_init__(self) -> None:
        self.weights = Weights(self.home, self.deployments, self.s3, self.keeper, self.settings.fetched_models_max)

    def tick(self) -> bool:
        """One step. False when the node has nothing more to do here. Raises RedisError when Redis is away."""
        self.keeper.main_alive = time.monotonic()
        record = self.holdings.heed_interrupts(self.deployments.get(self.name))
        if record is None or record.desired is None or record.desired.engine is not self.settings.engine:
            return False
        if self.left or record.is_asleep or not self.keeper.has_replica(record.desired_replicas):
            return False
        if record.desired.job_id not in self.keeper.held() and not self._carried(record.desired):
            return True  # the record has changed
        goal = self._goal(record)
        serving, coming = self._view(self.serving), self._view(self.coming)
        self._take(plan(goal, serving, coming, room=self._room(goal, serving)), goal, record)
        self._tell_start(goal)
        self.holdings.end_orphans(self.deployments.get(self.name), self._running())
        self._report(goal)
        self._tell_steady(goal)
        return True

    def _carried(self, desired: DeploymentSpec) -> bool:
        """See that a node carries this version. False when it is given up.

        One that cannot get the model leaves it to the others, as long as one of them may have it.
        """
        if self.holdings.is_left_to_others(desired, self.weights.lacks):
            return True
        if not self.holdings.claim(desired, runs=desired in self._running()):
            return False
        if desired.job_id in self.keeper.held():
            self.failures = 0  # its own, which nobody counted
            if self.serving is not None and self.serving.spec == desired:
                self._serves(desired)
        return True

    def _goal(self, record: Deployment) -> DeploymentSpec:
        """The version to work for. A new one is for the node that carries it, until it is proven there."""
        assert record.desired is not None
        if record.desired.job_id in self.keeper.held():
            self.holdings.hold_serving(record)
            return record.desired
        return record.serving or record.desired

    def _tell_steady(self, desired: DeploymentSpec) -> None:
        """Once a version has served for long, its earlier failures count no more."""
        since = self.serving.ready_since if self.serving is not None else None
        if since and time.monotonic() - since > _STABLE_SECONDS and self.steady_job != desired.job_id:
            self.steady_job, self.failures = desired.job_id, 0
            self.holdings.steady(desired)

    def _stage(self, spec: DeploymentSpec, stage: str, progress: float) -> None:
        self.detail = stage
        self.holdings.stage(spec, stage, progress)

    def _running(self) -> list[DeploymentSpec]:
        return [each.spec for each in (self.serving, self.coming, self.weights.bringing) if each is not None]

    # -- steps -----------------------------------------------------------------------------------------------

    def _take(self, step: Step, desired: DeploymentSpec, record: Deployment | None) -> None:
        if step is not Step.START:
            self.weights.stop()
        if step in (Step.START, Step.SWAP, Step.STOP_FIRST, Step.PROMOTE) and time.monotonic() < self.not_before:
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
                stage = dead.start_stage()
                how = NoRoom if stage is not None and stage.lacks_room else WorkFailed
                raise how(f"the engine ended before it answered: {dead.words()}")
        except StoreAway as away:
            self._stage(desired, f"waiting for S3: {away}", 0.0)
            self.not_before = time.monotonic() + _STORE_PAUSE_SECONDS
        except ModelMissing as missing:
            self._without_model(desired, record, missing)
        except WorkFailed as failure:
            self._failed(desired, record, str(failure), lacked_room=isinstance(failure, NoRoom))
        except (EngineRefused, httpx.HTTPError) as error:
            words = str(error) or type(error).__name__
            if step is Step.PROMOTE:
                self._stop_coming()
            self._failed(desired, record, f"the engine refused: {words}")

    def _start(self, spec: DeploymentSpec) -> None:
        if spec not in self._running():
            self._report(spec, about_to=spec)  # whoever ends the version's job waits for us from now on,
            record = self.deployments.get(self.name)
            if record is None or spec not in (record.desired, record.serving):
                return  # or has ended it already
        model, brings = self.weights.have(spec), self.weights.bringing
        if brings is not None and self.detail != (words := brings.words()):
            self._stage(spec, words, 0.1 * brings.share)
        if model is None:
            return  # when it has come, the next tick sees whether there is room for its engine
        self._stage(spec, f"starting the engine for {spec.model_id}", 0.1)
        self.weights.used(spec)
        self._adapters(spec)  # what is wrong with them is better known before the engine's long start
        index, host = self.keeper.replica.index, self.settings.engine_host
        name = f"{self.name}-{index}" if index else self.name
        self.coming = launch(self.driver, spec, model, host=host, home=self.home, name=name, beside=self.serving)
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
        if not self._settled(desired):
            return  # something newer is desired: the next tick sees what
        old, self.serving, self.coming = self.serving, self.coming, None
        self.serving.serves(desired)
        seconds = time.monotonic() - self.serving.started
        tallies.add(self.deployments.redis, self.name, {Tally.LOADS: 1, Tally.LOAD_SECONDS: seconds})
        self.deployments.asked(self.name)  # or one that loaded for long would sleep as it begins to serve
        self._serves(desired)
        self._stopped(old, drain=True)

    def _swap(self, desired: DeploymentSpec) -> None:
        assert self.serving is not None
        self.serving.change_adapters(self._adapters(desired))
        if not self._settled(desired):
            return
        self.serving.serves(desired)
        tallies.add(self.deployments.redis, self.name, {Tally.SWAPS: 1})
        self._serves(desired)
        try:
            self.serving.drop_adapters(desired.adapter_ids)
        except (EngineRefused, httpx.HTTPError) as error:
            log.warning("adapters that are not deployed any more stay in the engine: %s", error)

    def _settled(self, spec: DeploymentSpec) -> bool:
        """Record that this version answers, if that is not known yet. False when another is desired by now."""
        record = self.deployments.get(self.name)
        return (record is not None and record.serving == spec) or self.deployments.settle(spec)

    def _serves(self, spec: DeploymentSpec) -> None:
        """This version answers requests from now on: tell the routes first."""
        self._stage(spec, "serving", 1.0)
        self.detail = ""
        self.holdings.serves(spec.job_id)
        self._report(spec)

    def _bury(self, desired: DeploymentSpec, record: Deployment | None) -> None:
        assert self.serving is not None
        dead, self.serving = self.serving, None
        self._report(desired)
        self._stopped(dead)
        if same_base(dead.spec, desired):
            self._failed(desired, record, f"the engine died while it served: {dead.words()}")

    def _without_model(self, desired: DeploymentSpec, record: Deployment | None, missing: ModelMissing) -> None:
        """Leave the replica to a free node that might get the model.

        Else what has served before waits until the hub is back; of what has not, somebody is told at once.
        """
        if self.serving is None and desired.job_id not in self.keeper.interrupted() and self.may_leave():
            self.left = f"waiting for another inference node: {missing}"
            self._stage(desired, self.left, 0.0)
        elif isinstance(missing, HubAway) and record is not None and record.serving == desired:
            self._stage(desired, f"waiting for the hub: {missing}", 0.0)
            self.not_before = time.monotonic() + _HUB_PAUSE_SECONDS
        else:
            self._failed(desired, record, str(missing))

    def _failed(
        self, desired: DeploymentSpec, record: Deployment | None, words: str, *, lacked_room: bool = False
    ) -> None:
        """Try again later what has served before; give up what has not, and what failed too often.

        What has served waits for room as long as it takes.
        Only the node that carries the version gives it up, and not while another serves it. One that could not get
        the model leaves that to others.
        """
        if desired.job_id in self.keeper.interrupted():
            return  # that is why; the next tick heeds it
        proven = record is not None and record.serving is not None and record.serving == desired
        lacks = self.weights.lacks == desired.model_id
        if self.holdings.is_left_to_others(desired, self.weights.lacks):
            self.holdings.release(desired.job_id, f"another node is to carry it: {words}")
        decides = desired.job_id in self.keeper.held() and not self.holdings.answers_elsewhere(desired)
        # Another node may be about to join, and have the model.
        tries_again = proven or (lacks and record is not None and record.desired_replicas > 1)
        waits = proven and lacked_room
        if not decides or waits or (tries_again and self.failures < self.settings.engine_max_restarts):
            self.failures += not waits
            if not lacks:
                tallies.add(self.deployments.redis, self.name, {Tally.RESTARTS: 1})
            pause = min(_MAX_BACKOFF_SECONDS, 0.5 * 2.0 ** min(self.failures, _MANY_FAILURES))
            self.not_before = time.monotonic() + pause
            what = "fetching" if lacks else "starting"
            self._stage(desired, f"{what} again in {pause:.0f} s, try {self.failures}: {words}", 0.0)
            return
        if tries_again:
            words = f"failed {self.failures + 1} times in a row, the last time: {words}"
        self.failures, self.not_before = 0, 0.0
        self.holdings.finish(desired.job_id, JobStatus.FAILED, words)
        self.deployments.give_up(desired, words)

    # -- engines ---------------------------------------------------------------------------------------------

    def _view(self, engine: EngineProcess | None) -> View | None:
        if engine is None:
            return None
        view = engine.view()
        seconds = self.settings.engine_start_seconds
        if engine is self.coming and view.phase is Phase.STARTING and time.monotonic() - engine.started > seconds:
            last = f"; it was {stage.words}" if (stage := engine.start_stage()) else ""
            engine.health.kill(f"it did not answer within {seconds:.0f} s (HEARTH_ENGINE_START_SECONDS){last}")
        return engine.view()

    def _tell_start(self, goal: DeploymentSpec) -> None:
        """Say what the engine that is coming does; waiting for room is no part of its start."""
        coming = self.coming
        if coming is None or coming.view().phase is not Phase.STARTING or not same_base(coming.spec, goal):
            return
        stage = coming.start_stage()
        if stage is not None and stage.lacks_room:
            coming.count_from_now()
        if stage is not None and stage.words != self.detail:
            self._stage(goal, stage.words, 0.1 + 0.6 * stage.loaded)

    def _adapters(self, spec: DeploymentSpec) -> dict[str, Path]:
        fetch = partial(fetch_all, self.s3, spec, self.home.adapters, self.settings.rank_limit(spec.settings))
        return unless_interrupted(fetch, lambda: spec.job_id in self.keeper.interrupted())

    def _room(self, desired: DeploymentSpec, serving: View | None) -> bool:
        """Whether another engine fits beside the one that serves."""
        if serving is None or same_base(desired, serving.spec):
            return True
        return fits_beside(self.driver, desired, self.weights.stored(desired))

    def _stopped(self, engine: EngineProcess | None, *, drain: bool = False) -> None:
        """Stop an engine, with all its processes."""
        if engine is not None:
            if drain:
                engine.drain(self.settings.engine_grace_seconds)
            code = engine.stop()
            self.keeper.forget(engine)
            self.weights.used(engine.spec)
            log.info("%s: engine %s stopped with code %d", self.name, engine.url, code)

    def _stop_coming(self) -> EngineProcess | None:
        """Stop the engine that was being started. Returns it, for its last words."""
        stopped, self.coming = self.coming, None
        self._stopped(stopped)
        return stopped

    def _report(
        self, goal: DeploymentSpec, state: DeploymentState | None = None, about_to: DeploymentSpec | None = None
    ) -> None:
        """Say what the node does, or is about to start."""
        runs = tuple(each.job_id for each in (*self._running(), about_to) if each is not None)
        who, replica, lacks = self.holdings.node_id, self.keeper.replica, self.weights.lacks
        report = report_of(self.serving, goal, who, replica, self.detail, runs, state, lacks)
        self.keeper.report(report, self.serving)

    # -- the end ---------------------------------------------------------------------------------------------

    def broke(self, error: Exception) -> None:
        """Something in the node itself failed: give up the version it worked on, or it would be tried forever."""
        words = f"unexpected {type(error).__name__}: {error}. This is a bug in Hearth; the node's log has the details"
        try:
            record = self.deployments.get(self.name)
            if record is not None and record.desired is not None and record.desired.job_id in self.keeper.held():
                self.holdings.finish(record.desired.job_id, JobStatus.FAILED, words)
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
        self.weights.stop()
        old, self.serving = self.serving, None
        self._stopped(old, drain=True)
        try:
            self.keeper.withdraw()
            record = self.deployments.get(self.name)
            self.holdings.end_orphans(record, self._running())
            self.holdings.release_all(ASLEEP if record is not None and record.is_asleep else self.left or STOPPED)
            self.keeper.give_replica_back()
        except RedisError:
            log.warning("Redis is away: what is held here goes on elsewhere when its lease ends")
