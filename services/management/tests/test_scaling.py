"""How many engines a deployment takes by its load: the rule itself, and the reconciler that goes by it."""

from dataclasses import replace
from itertools import pairwise
from math import ceil

import pytest
from fastapi.testclient import TestClient
from hearth_contracts.deploy import DeploymentSpec, DeploymentState, Engine, EngineLoad, NodeReport
from hearth_jobs import keys
from hearth_jobs.by_load import Advice
from hearth_jobs.deployment_record import ByLoad, Deployment
from hearth_jobs.first_tokens import Counts, bring
from hearth_jobs.queues import INFERENCE_LLM, counted
from hearth_management.config import ManagementSettings
from hearth_management.deploy_metrics import DeployMetrics
from hearth_management.reconciler import reconcile_deployments
from hearth_management.scaling import Load, Rules, advised, rules, scale_by_load, step
from hearth_management.services import Services
from hypothesis import given, settings
from hypothesis import strategies as st

from services.management.tests.conftest import answered

RULES = Rules(waiting=4, first_token=0, up_seconds=10, down_seconds=300)
BUSY, QUIET = Load(1, running=8, waiting=14), Load(1, running=0, waiting=0)
RECORD = Deployment(
    "default", None, None, None, "", replicas=1, max_replicas=4, by_load=None, idle_after=0, is_asleep=False
)


class Course:
    """What becomes of a deployment that is looked at once a second."""

    def __init__(self, record: Deployment, rules: Rules = RULES) -> None:
        self.record = record
        self.rules = rules
        self.advice = Advice()
        self.now = 1000.0
        self.changes: list[tuple[float, int, int]] = []  # when, from, to

    def look(self, load: Load, seconds: float = 1) -> int:
        before = self.record.desired_replicas
        by_load, self.advice = step(self.record, self.advice, load=load, rules=self.rules, now=self.now)
        self.record = replace(self.record, by_load=by_load)
        if (after := self.record.desired_replicas) != before:
            self.changes.append((self.now, before, after))
        self.now += seconds
        return after

    def spend(self, load: Load, seconds: int) -> int:
        for _ in range(seconds):
            self.look(load)
        return self.record.desired_replicas


def served_by(engines: int, asked: float, full: float) -> Load:
    """So many requests in engines that each have `full` of them at work, and let the others wait."""
    running = min(asked, engines * full)
    return Load(engines, running, asked - running)


# -- the rule


def test_requests_that_wait_for_long_bring_as_many_engines_as_have_room_for_them() -> None:
    course = Course(RECORD)
    assert course.spend(BUSY, 10) == 1
    assert course.spend(BUSY, 2) == ceil((8 + 14) / (8 + RULES.waiting)) == 2
    assert course.record.by_load == ByLoad(
        replicas=2, reason="14 requests waited in each engine, longer than 10 s", full_at=8
    )


def test_a_moment_without_waiting_begins_the_time_anew() -> None:
    course = Course(RECORD)
    for _ in range(10):
        course.spend(BUSY, 8)
        assert course.look(Load(1, running=8, waiting=0)) == 1


def test_a_little_more_than_may_wait_is_none() -> None:
    assert Course(RECORD).spend(Load(1, running=8, waiting=4.4), 60) == 1
    assert Course(RECORD).spend(Load(1, running=8, waiting=4.6), 60) == 2


def test_engines_on_their_way_or_without_a_node_are_waited_for_however_much_waits_meanwhile() -> None:
    course = Course(RECORD)
    course.spend(BUSY, 12)
    assert course.spend(Load(1, running=8, waiting=1000), 3600) == 2
    assert course.spend(Load(2, running=16, waiting=1000), 12) == 4


def test_engines_go_when_fewer_were_enough_for_long_with_room_to_spare() -> None:
    course = Course(RECORD)
    course.spend(BUSY, 12)
    course.spend(Load(2, running=16, waiting=2), 60)
    assert course.spend(Load(2, running=7, waiting=0), 400) == 2, "7 of 8 is too full for one engine"
    assert course.spend(Load(2, running=6, waiting=0), 299) == 2
    assert course.spend(Load(2, running=6, waiting=0), 3) == 1
    assert course.record.by_load is not None
    assert course.record.by_load.reason == "for 300 s so few were enough"


def test_late_first_tokens_bring_one_engine_after_the_other_and_only_where_they_are_asked_to() -> None:
    late, prompt = Load(1, running=8, waiting=0, first_token=12), Load(2, running=16, waiting=0, first_token=1)
    assert Course(RECORD).spend(late, 60) == 1
    course = Course(RECORD, replace(RULES, first_token=10))
    assert course.spend(replace(late, first_token=11), 60) == 1
    assert course.spend(late, 12) == 2
    assert course.record.by_load is not None
    assert course.record.by_load.reason == "one stream in 20 waited 12 s for its first token, longer than 10 s"
    assert course.spend(late, 60) == 2, "the second is on its way"
    assert course.spend(prompt, 60) == 2
    assert course.spend(replace(late, ready=2), 12) == 3


def test_a_deployment_whose_engines_do_not_answer_stays_as_it_is() -> None:
    course = Course(RECORD)
    course.spend(BUSY, 12)
    assert course.spend(Load(0, 0, 0), 1000) == 2


def test_what_was_seen_before_a_long_pause_does_not_count() -> None:
    course = Course(RECORD)
    course.spend(BUSY, 8)
    course.advice = Advice()  # as when nobody looked for so long that Redis let it go
    assert course.spend(BUSY, 8) == 1


LOADS = st.builds(
    Load,
    ready=st.integers(0, 6),
    running=st.floats(0, 500),
    waiting=st.floats(0, 500),
    first_token=st.none() | st.floats(0, 300),
)
EXTREMES = st.sampled_from([Load(8, running=64, waiting=800), Load(8, running=0, waiting=0)])
"""Those that change the number, if they last."""
RECORDS = st.builds(
    lambda least, more, now, full_at: replace(
        RECORD, replicas=least, max_replicas=least + more, by_load=ByLoad(replicas=now, reason="", full_at=full_at)
    ),
    least=st.integers(1, 4),
    more=st.integers(0, 4),
    now=st.integers(1, 10),
    full_at=st.floats(0, 100),
)


@given(
    record=RECORDS, looks=st.lists(st.tuples(EXTREMES | LOADS, st.sampled_from([1.0, 5.0, 12.0, 200.0])), max_size=80)
)
def test_the_number_is_always_within_its_bounds_and_never_goes_back_and_forth(
    record: Deployment, looks: list[tuple[Load, float]]
) -> None:
    course = Course(record, replace(RULES, first_token=10))
    for load, seconds in looks:
        assert record.replicas <= course.look(load, seconds) <= record.max_replicas
    for (earlier, was, became), (later, before, after) in pairwise(course.changes):
        if (became > was) != (after > before):
            assert later - earlier >= (RULES.down_seconds if after < before else RULES.up_seconds)
    assert all(at - 1000 >= RULES.up_seconds for at, _, _ in course.changes)


@settings(deadline=None)
@given(load=LOADS, more=st.floats(0, 500), current=st.integers(1, 8), full_at=st.floats(0, 100))
def test_more_that_waits_never_means_fewer_engines(load: Load, more: float, current: int, full_at: float) -> None:
    fuller = replace(load, waiting=load.waiting + more)
    both = replace(RULES, first_token=10)
    assert advised(fuller, current, full_at, both) >= advised(load, current, full_at, both)


@settings(deadline=None)
@given(asked=st.floats(0, 200), full=st.floats(1, 50))
def test_under_a_load_that_stays_the_number_comes_to_rest(asked: float, full: float) -> None:
    course = Course(replace(RECORD, max_replicas=1000))
    for _ in range(400):
        course.look(served_by(course.record.desired_replicas, asked, full))
    number, changes = course.record.desired_replicas, len(course.changes)
    assert asked - number * full <= number * RULES.waiting * 1.1 + 1e-6
    for _ in range(400):
        course.look(served_by(number, asked, full))
    assert len(course.changes) == changes
    assert [after > before for _, before, after in course.changes] == [True] * changes


# -- the reconciler


def desire(services: Services, **bounds: int) -> DeploymentSpec:
    spec, _ = services.deployments.desire(
        "default", engine=Engine.VLLM, model_id="acme/llm", adapter_ids=(), served_name="LLM", **bounds
    )
    services.deployments.settle(spec)
    return spec


def ready(services: Services, spec: DeploymentSpec, index: int, load: EngineLoad | None) -> None:
    """As a node says of itself."""
    report = NodeReport(
        node_id=f"host-{index}:1", deployment=spec.name, engine=spec.engine, state=DeploymentState.READY,
        url=f"http://host-{index}", model_id=spec.model_id, generation=spec.generation, replica=index,
    )  # fmt: skip
    services.nodes.report(report, load)


def look(services: Services, now: float) -> int:
    scale_by_load(services, services.deployments.all(), now)
    return desired(services)


def desired(services: Services) -> int:
    record = services.deployments.get("default")
    assert record is not None
    return record.desired_replicas


FULL = EngineLoad(running=8, waiting=14)
IDLE = EngineLoad(running=0, waiting=0)


def test_a_replica_more_is_queued_and_shown_with_its_reason_and_goes_when_the_load_is_gone(
    services: Services, client: TestClient
) -> None:
    spec = desire(services, max_replicas=3)
    ready(services, spec, 0, FULL)
    assert [look(services, 1000 + second) for second in range(12)] == [1] * 11 + [2]
    services.redis.delete(f"rq:queue:{INFERENCE_LLM.queue}")
    reconcile_deployments(services, services.deployments.all())
    assert counted(services.redis, INFERENCE_LLM)["default"] == 2, "none of the two is held by a node here"
    replicas = answered(client.get("/v1/deploy/status"))["replicas"]
    assert {name: replicas[name] for name in ("desired", "min", "max", "ready")} == {
        "desired": 2, "min": 1, "max": 3, "ready": 1,
    }  # fmt: skip
    assert replicas["reason"] == "14 requests waited in each engine, longer than 10 s"
    assert "without an inference node: 1" in answered(client.get("/v1/deploy/status"))["detail"]
    (gauge, *_) = DeployMetrics(services).collect()
    assert [(sample.labels["deployment"], sample.value) for sample in gauge.samples] == [("default", 2)]
    ready(services, spec, 0, IDLE)
    ready(services, spec, 1, IDLE)
    assert [look(services, 1012 + second) for second in (0, 299, 310)] == [2, 2, 1]


def test_looks_go_on_where_those_before_a_restart_or_of_another_process_ended(services: Services) -> None:
    spec = desire(services, max_replicas=2)
    ready(services, spec, 0, FULL)
    for second in range(0, 12, 3):
        assert look(services, 1000 + second) == 1
        assert look(services, 1000 + second + 0.5) == 1  # another process, beside the first
    assert look(services, 1012) == look(services, 1012) == 2
    assert 0 < services.redis.pttl(keys.advice("default")) <= 30_000


def test_late_first_tokens_are_read_of_what_gateways_counted(services: Services) -> None:
    timely = replace(services, settings=ManagementSettings(scale_first_token_seconds=2))
    spec = desire(timely, max_replicas=2)
    ready(timely, spec, 0, EngineLoad(running=3, waiting=0))
    counts = Counts()
    for _ in range(40):
        counts.add(4.0)
    for second in range(12):
        bring(services.redis, {"default": counts}, 1000 + second)
        look(services, 1000 + second)
    assert desired(services) == 1, "nobody asked for that"
    services.redis.delete(keys.advice("default"))
    assert [look(timely, 1008 + second) for second in range(12)] == [1] * 11 + [2]


def test_without_max_replicas_the_load_changes_nothing_and_is_not_even_read(services: Services) -> None:
    spec = desire(services)
    ready(services, spec, 0, FULL)
    assert [look(services, 1000 + second) for second in range(0, 100, 5)] == [1] * 20
    assert not services.redis.exists(keys.advice("default"))


def test_as_long_as_an_engine_has_not_told_its_load_nothing_changes(services: Services) -> None:
    spec = desire(services, max_replicas=3)
    ready(services, spec, 0, FULL)
    ready(services, spec, 1, None)
    assert [look(services, 1000 + second) for second in range(0, 60, 5)] == [1] * 12


def test_what_sleeps_wakes_with_as_few_as_there_may_be_and_by_hand_the_bounds_hold_at_once(services: Services) -> None:
    spec = desire(services, max_replicas=3, idle_after=60)

    def grow(to: int) -> None:
        services.redis.delete(keys.advice("default"))
        for index in range(to):
            ready(services, spec, index, FULL)
        for second in range(0, 30, 2):
            look(services, 1000 + second)
        assert desired(services) >= to

    grow(2)
    assert services.deployments.sleep(spec)
    assert look(services, 2000) == 1
    assert services.deployments.wake("default")
    assert desired(services) == 1
    grow(2)
    services.deployments.scale("default", max_replicas=2)
    assert desired(services) == 2
    services.deployments.scale("default", max_replicas=0)
    assert desired(services) == 1
    services.deployments.scale("default", max_replicas=5)
    assert desired(services) == 1, "what the load made once is forgotten with the wish"


def test_the_rules_are_the_settings(services: Services, monkeypatch: pytest.MonkeyPatch) -> None:
    assert rules(services.settings) == RULES
    for name, value in (("WAITING", "2"), ("FIRST_TOKEN_SECONDS", "3"), ("UP_SECONDS", "4"), ("DOWN_SECONDS", "5")):
        monkeypatch.setenv(f"HEARTH_SCALE_{name}", value)
    assert rules(ManagementSettings()) == Rules(waiting=2, first_token=3, up_seconds=4, down_seconds=5)
