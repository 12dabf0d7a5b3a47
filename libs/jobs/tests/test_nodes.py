"""Node reports are leases."""

from hearth_contracts.deploy import DeploymentState, Engine, EngineLoad, NodeReport
from hearth_jobs import keys
from hearth_jobs.nodes import NodeRegistry
from redis import Redis


def report(node_id: str = "n1", state: DeploymentState = DeploymentState.READY) -> NodeReport:
    return NodeReport(
        node_id=node_id,
        deployment="default",
        engine=Engine.VLLM,
        state=state,
        url="http://127.0.0.1:1",
        models=("LLM",),
        model_id="org/base",
        generation=1,
    )


def test_a_report_is_live_until_it_is_withdrawn(redis: Redis) -> None:
    nodes = NodeRegistry(redis)
    nodes.report(report("n1"))
    nodes.report(report("n2"))
    assert [node.node_id for node in nodes.live()] == ["n1", "n2"]
    nodes.withdraw("n1")
    assert [node.node_id for node in nodes.live()] == ["n2"]


def test_a_report_whose_lease_ended_is_forgotten(redis: Redis) -> None:
    nodes = NodeRegistry(redis)
    nodes.report(report())
    redis.pexpire(keys.node("n1"), 0)
    assert nodes.live() == []
    assert redis.smembers(keys.NODES) == set()


def test_what_an_engine_has_to_do_is_told_with_the_report_and_ends_with_it(redis: Redis) -> None:
    nodes = NodeRegistry(redis)
    load = EngineLoad(running=8, waiting=14)
    nodes.report(report("n1"), load)
    nodes.report(report("n2"))
    assert nodes.loads(nodes.live()) == [load]
    assert redis.pttl(keys.load("n1")) > 0
    nodes.withdraw("n1")
    assert nodes.loads([report("n1"), report("n2")]) == []


def test_readers_are_woken_by_what_is_new_and_only_by_that(redis: Redis) -> None:
    nodes = NodeRegistry(redis)
    listener = redis.pubsub(ignore_subscribe_messages=True)
    listener.subscribe(keys.WAKE)
    listener.get_message(timeout=1)
    nodes.report(report(state=DeploymentState.LOADING))
    nodes.report(report(state=DeploymentState.LOADING))
    nodes.report(report(state=DeploymentState.READY))
    for waiting in range(3):  # that alone wakes nobody
        nodes.report(report(state=DeploymentState.READY), EngineLoad(running=8, waiting=waiting))
    nodes.withdraw("n1")
    heard = []
    while (message := listener.get_message(timeout=0.2)) is not None:
        heard.append(message["data"])
    listener.close()
    assert heard == [b"n1", b"n1", b"n1"]
