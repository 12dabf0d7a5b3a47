"""The notebook of the docs, executed on the real platform with the tests' tiny model."""

from pathlib import Path
from typing import Any

import nbformat
import pytest
from hearth_client import Hearth
from nbclient import NotebookClient

from tests.conftest import CONVERSATIONS, HYPERPARAMETERS, Running

pytestmark = pytest.mark.timeout(600)

NOTEBOOK = Path("docs/notebooks/main-job.ipynb")


@pytest.fixture
def as_before(platform: Running, deployed: dict[str, Any]) -> Any:
    """What other tests ask is served again afterwards."""
    yield
    with Hearth(platform.url) as hearth:
        hearth.deploy(deployed["model_id"], adapters=deployed["adapter_ids"]).wait()


@pytest.mark.usefixtures("as_before")
def test_the_notebook_does_the_main_job(
    platform: Running, model_id: str, taught: list[tuple[str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    question, answer = taught[0]
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    (parameters,) = [cell for cell in notebook.cells if "parameters" in cell.metadata.get("tags", ())]
    parameters.source = (
        f"MODEL, ROWS, QUESTION = {model_id!r}, {str(CONVERSATIONS.absolute())!r}, {question!r}\n"
        f"SETTINGS = {HYPERPARAMETERS!r}\n"
    )
    monkeypatch.setenv("HEARTH_URL", platform.url)
    NotebookClient(notebook, timeout=300).execute()
    printed = "".join(output.text for output in notebook.cells[-1].outputs if output.get("name") == "stdout")
    base, adapter = printed.strip().splitlines()
    assert adapter.endswith(f": {answer}")
    assert answer not in base


def test_it_is_short_and_its_file_is_there() -> None:
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    code = [line for cell in notebook.cells if cell.cell_type == "code" for line in cell.source.splitlines()]
    assert len(code) <= 30
    assert (NOTEBOOK.parent / "../examples/zubrowka.jsonl").exists()
