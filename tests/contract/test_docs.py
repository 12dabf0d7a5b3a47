"""docs/api.md names every path that there is, and no test that is not there."""

import re
from pathlib import Path

from tests.support.openapi import document

PAGE = Path("docs/api.md")
HERE = Path(__file__).parent


def test_every_path_is_named() -> None:
    page = PAGE.read_text(encoding="utf-8")
    assert [path for path in document()["paths"] if f"`{path.removeprefix('/api')}`" not in page] == []


def test_every_test_that_is_named_is_there() -> None:
    page = PAGE.read_text(encoding="utf-8")
    named = set(re.findall(r"`(?:(test_\w+\.py)(?:::(test_\w+))?|(test_\w+))`", page))
    assert len(named) > 20
    for file, test, alone in named:
        source = (HERE / (file or "test_reference.py")).read_text(encoding="utf-8")
        assert f"def {test or alone}(" in source if test or alone else source, (file, test, alone)
