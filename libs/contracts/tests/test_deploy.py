"""What the records of deployments say where they name nothing."""

import pytest
from hearth_contracts.deploy import Engine, NodeReport, Task


@pytest.mark.parametrize(("engine", "task"), [(Engine.VLLM, Task.GENERATE), (Engine.INFINITY, Task.EMBED)])
def test_a_record_that_names_no_task_is_for_its_engines_usual_one(engine: Engine, task: Task) -> None:
    body = f'{{"node_id": "n", "deployment": "d", "engine": "{engine}", "state": "READY", "url": "", '
    report = NodeReport.model_validate_json(body + '"model_id": "a/b", "generation": 1}')
    assert report.task is task
    reranker = report.model_copy(update={"task": Task.RERANK})
    assert NodeReport.model_validate_json(reranker.model_dump_json()).task is Task.RERANK
