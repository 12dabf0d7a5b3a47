"""One JSON object a line, and what is being worked on in each."""

import json
import logging
from collections.abc import Iterator

import pytest
from hearth_telemetry.logs import configure_logging
from structlog.contextvars import bound_contextvars


@pytest.fixture(autouse=True)
def own_handlers() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)


def test_a_line_says_who_writes_and_what_is_worked_on(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging("dataset")
    with bound_contextvars(request_id="r-1", key_id="k-1", job_id="j-1"):
        logging.getLogger("some.library").warning("slow: %d s\nsecond line", 3)
    logging.getLogger("some.library").warning("later")
    during, after = (json.loads(line) for line in capsys.readouterr().out.splitlines())
    assert during["event"] == "slow: 3 s\nsecond line"
    assert (during["service"], during["level"], during["logger"]) == ("dataset", "warning", "some.library")
    assert (during["request_id"], during["key_id"], during["job_id"]) == ("r-1", "k-1", "j-1")
    assert not {"request_id", "key_id", "job_id"} & after.keys()
