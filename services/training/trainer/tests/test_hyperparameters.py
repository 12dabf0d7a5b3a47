"""Our hyperparameters against the libraries' own classes: names, defaults, and the choices they take."""

import json
from typing import Any, get_args

import pytest
from hearth_contracts.hyperparameters import Hyperparameters, Schedule, upstream_of

from services.training.trainer.tests.conftest import in_training

PROGRAM = """
import dataclasses, inspect, json
from peft import LoraConfig
from transformers import EarlyStoppingCallback
from transformers.trainer_utils import SchedulerType
from trl import DPOConfig, ModelConfig, SFTConfig

defaults = {}
for kind in (SFTConfig, DPOConfig, ModelConfig, LoraConfig):
    for field in dataclasses.fields(kind):
        if field.default is not dataclasses.MISSING:
            defaults[f"{kind.__name__}.{field.name}"] = getattr(field.default, "value", field.default)
for name, parameter in inspect.signature(EarlyStoppingCallback).parameters.items():
    defaults[f"EarlyStoppingCallback.{name}"] = parameter.default
print("FOUND" + json.dumps({"defaults": defaults, "schedules": [each.value for each in SchedulerType]}, default=str))
"""

UPSTREAM = {name: found for name, field in Hyperparameters.model_fields.items() if (found := upstream_of(field))}


@pytest.fixture(scope="module")
def libraries() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(in_training("-c", PROGRAM).rpartition("FOUND")[2])
    return found


def test_each_setting_names_a_field_of_the_libraries_with_its_default_there(libraries: dict[str, Any]) -> None:
    ours = dict(UPSTREAM.values())
    assert ours == {name: libraries["defaults"][name] for name in ours}


def test_every_schedule_is_one_of_the_libraries(libraries: dict[str, Any]) -> None:
    assert set(get_args(Schedule)) <= set(libraries["schedules"])


def test_where_our_default_is_another_it_is_known() -> None:
    different = {
        name for name, (_, default) in UPSTREAM.items() if Hyperparameters.model_fields[name].default != default
    }
    assert different == {
        "max_steps",  # null, not -1
        "gradient_accumulation_steps",  # chosen from the batch
        "learning_rate",  # an adapter takes ten times what a whole model does
        "lora_rank", "lora_alpha", "target_modules",  # PEFT's is a small adapter of two layers
        "save_steps",  # ten a run
        "early_stopping_patience",  # off
    }  # fmt: skip
