"""docs/configure.md is what the code says, and leaves nothing out."""

import importlib

from hearth_local.paths import CHECKOUT
from hearth_local.settings_page import GROUPS, PAGE, page
from pydantic_settings import BaseSettings


def test_the_page_is_as_the_code_makes_it() -> None:
    assert PAGE.read_text(encoding="utf-8") == page(), "run python -m hearth_local.settings_page"


def test_no_settings_of_any_service_are_left_out() -> None:
    shown = {settings for _, _, classes in GROUPS for settings in classes}
    for path in sorted(CHECKOUT.glob("*/*/hearth_*/config.py")):
        module = importlib.import_module(f"{path.parent.name}.config")
        for value in vars(module).values():
            if isinstance(value, type) and issubclass(value, BaseSettings) and value is not BaseSettings:
                assert value in shown, f"{value.__name__} of {path}"


def test_every_setting_says_what_it_is() -> None:
    for _, _, classes in GROUPS:
        for settings in classes:
            assert [name for name, field in settings.model_fields.items() if not field.description] == []
