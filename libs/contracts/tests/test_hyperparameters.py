"""The settings of a training as the documentation shows them, and how they fit together."""

from pathlib import Path

import pytest
from hearth_contracts.hyperparameters import Hyperparameters, upstream_of
from pydantic import ValidationError

PAGE = Path(__file__).parents[3] / "docs" / "training.md"


def test_the_page_shows_every_setting_as_it_is() -> None:
    page = PAGE.read_text(encoding="utf-8")
    for name, field in Hyperparameters.model_fields.items():
        upstream = upstream_of(field)
        default = "null" if field.default is None else field.default
        stands_for = f"`{upstream[0]}`" if upstream else ""
        assert f"| `{name}` | {default} | {stands_for} | {field.description or ''} |" in page


def test_auto_is_left_out() -> None:
    assert "n_epochs" not in Hyperparameters.model_validate({"n_epochs": "auto"}).model_fields_set


def test_steps_and_rows_kept_back() -> None:
    settings = Hyperparameters(n_epochs=2, batch_size=8, validation_split=0.1)
    assert (settings.kept_back(100), settings.kept_back(2), settings.steps(90)) == (10, 1, 24)
    assert Hyperparameters(max_steps=7).steps(1000) == 7


def test_two_ways_to_validate_are_one_too_many() -> None:
    with pytest.raises(ValidationError, match="not both"):
        Hyperparameters(validation_split=0.1, validation_dataset_id="0a1b2c3d-0000-4000-8000-000000000000")
