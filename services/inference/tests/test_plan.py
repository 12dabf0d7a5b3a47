"""What a node does next, case by case."""

import pytest
from hearth_contracts.deploy import DeploymentSpec, Engine
from hearth_contracts.engine import EngineSettings
from hearth_contracts.names import new_id
from hearth_inference.plan import Phase, Step, View, plan

JOB = new_id()


def spec(generation: int, model_id: str = "a/base", *adapters: str) -> DeploymentSpec:
    return DeploymentSpec(
        name="default",
        engine=Engine.VLLM,
        model_id=model_id,
        adapter_ids=adapters,
        served_name="LLM",
        job_id=JOB,
        generation=generation,
    )


OLD = spec(1)
SAME_BASE = spec(2, "a/base", "ada")
OTHER_BASE = spec(2, "b/base")
NEWEST = spec(3, "c/base")
OTHER_SETTINGS = spec(2).model_copy(update={"settings": EngineSettings(max_model_len=64)})
UP, STARTING, DEAD = Phase.ANSWERS, Phase.STARTING, Phase.DEAD


@pytest.mark.parametrize(
    ("goal", "serving", "coming", "room", "step"),
    [
        pytest.param(OLD, None, None, True, Step.START, id="first deploy"),
        pytest.param(OLD, None, None, False, Step.START, id="nothing to make room for"),
        pytest.param(OLD, None, View(OLD, STARTING), True, Step.NOTHING, id="wait for the start"),
        pytest.param(OLD, None, View(OLD, UP), True, Step.PROMOTE, id="it answers"),
        pytest.param(OLD, None, View(OLD, DEAD), True, Step.FAILED, id="it ended before it answered"),
        pytest.param(SAME_BASE, None, View(OLD, STARTING), True, Step.NOTHING, id="newer adapters while it starts"),
        pytest.param(SAME_BASE, None, View(OLD, UP), True, Step.PROMOTE, id="newer adapters as it answers"),
        pytest.param(NEWEST, None, View(OTHER_BASE, STARTING), True, Step.DISCARD, id="newer base while it starts"),
        pytest.param(
            NEWEST, None, View(OTHER_BASE, DEAD), True, Step.DISCARD, id="superseded, so its death is nobody's"
        ),
        pytest.param(OLD, View(OLD, UP), None, True, Step.NOTHING, id="all is as desired"),
        pytest.param(OLD, View(OLD, STARTING), None, True, Step.NOTHING, id="silent for a moment"),
        pytest.param(OLD, View(OLD, DEAD), None, True, Step.BURY, id="it died"),
        pytest.param(SAME_BASE, View(OLD, UP), None, False, Step.SWAP, id="other adapters need no room"),
        pytest.param(SAME_BASE, View(OLD, DEAD), None, True, Step.BURY, id="no swap in a dead engine"),
        pytest.param(OTHER_BASE, View(OLD, UP), None, True, Step.START, id="other base, room for both"),
        pytest.param(OTHER_BASE, View(OLD, UP), None, False, Step.STOP_FIRST, id="other base, no room"),
        pytest.param(OTHER_SETTINGS, View(OLD, UP), None, True, Step.START, id="other settings, room for both"),
        pytest.param(OTHER_SETTINGS, View(OLD, UP), None, False, Step.STOP_FIRST, id="other settings, no room"),
        pytest.param(OTHER_BASE, View(OLD, UP), View(OTHER_BASE, STARTING), False, Step.NOTHING, id="both run"),
        pytest.param(OTHER_BASE, View(OLD, UP), View(OTHER_BASE, UP), False, Step.PROMOTE, id="switch"),
        pytest.param(OTHER_BASE, View(OLD, UP), View(OTHER_BASE, DEAD), True, Step.FAILED, id="the old one goes on"),
        pytest.param(
            OTHER_BASE, View(OLD, DEAD), View(OTHER_BASE, UP), True, Step.BURY, id="the old one died meanwhile"
        ),
        pytest.param(OLD, View(OLD, UP), View(OTHER_BASE, STARTING), True, Step.DISCARD, id="taken back"),
        pytest.param(NEWEST, View(OLD, UP), View(OTHER_BASE, UP), True, Step.DISCARD, id="superseded as it answers"),
    ],
)
def test_the_next_step(goal: DeploymentSpec, serving: View | None, coming: View | None, room: bool, step: Step) -> None:
    assert plan(goal, serving, coming, room=room) is step
