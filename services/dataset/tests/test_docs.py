"""docs/datasets.md says what the service does: its tables are run."""

import re
from pathlib import Path

import pytest
from hearth_contracts.datasets import DatasetFormat
from hearth_dataset.validation import Validator

PAGE = (Path(__file__).parents[3] / "docs/datasets.md").read_text(encoding="utf-8")
GOOD = re.findall(r"^\| `(\w+)` \| [^|]+ \| `(\{.*?\})` \| ", PAGE, re.MULTILINE)
BAD = re.findall(r"^\| `([{\[].*?)` \| (line 1.*) \|$", PAGE, re.MULTILINE)


def test_the_page_has_a_row_for_every_format() -> None:
    assert [name for name, _ in GOOD] == list(DatasetFormat)
    assert len(BAD) > 25


@pytest.mark.parametrize(("name", "row"), GOOD)
def test_a_row_that_the_page_shows_is_taken_as_what_it_says(name: str, row: str) -> None:
    validator = Validator(10_000)
    validator.feed(row.encode())
    counts = validator.finish()
    assert counts is not None, validator.faults
    assert counts.format == DatasetFormat(name)


@pytest.mark.parametrize(("row", "said"), BAD)
def test_a_row_that_the_page_calls_bad_is_refused_with_its_words(row: str, said: str) -> None:
    validator = Validator(10_000)
    validator.feed(row.encode())
    assert validator.finish() is None
    fault = validator.faults[0]
    assert f"{' '.join(str(part) for part in fault.loc)}: {fault.msg}" == said
