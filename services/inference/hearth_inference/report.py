"""What a node says of itself."""

from hearth_contracts.deploy import DeploymentSpec, DeploymentState, NodeReport
from hearth_jobs.replicas import HeldReplica

from hearth_inference.process import EngineProcess


def report_of(
    engine: EngineProcess | None,
    goal: DeploymentSpec,
    node_id: str,
    replica: HeldReplica,
    detail: str,
    runs: tuple[str, ...],
    state: DeploymentState | None = None,
    lacks: str = "",
) -> NodeReport:
    """The report of a node that serves with `engine`, or (None) loads `goal`.

    Without a `state` it is READY when the engine's health check is good right now, else LOADING.
    """
    if state is None:
        state = DeploymentState.READY if engine is not None and engine.answers() else DeploymentState.LOADING
    spec = engine.spec if engine is not None else goal
    return NodeReport(
        node_id=node_id,
        deployment=spec.name,
        engine=spec.engine,
        task=spec.task,
        state=state,
        url=engine.url if engine is not None and state is not DeploymentState.LOADING else "",
        health_url=engine.health_url if engine is not None and state is not DeploymentState.LOADING else "",
        models=(spec.served_name, spec.model_id, *spec.adapter_ids) if engine is not None else (),
        adapter_ids=spec.adapter_ids,
        model_id=spec.model_id,
        generation=spec.generation,
        detail=detail,
        replica=replica.index,
        runs=runs,
        lacks=lacks,
    )
