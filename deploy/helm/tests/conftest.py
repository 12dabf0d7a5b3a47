"""The chart, rendered by the real helm with several sets of values."""

from pathlib import Path

import pytest

from tests.support.helm import VALUES, Chart, render, unpack


@pytest.fixture(scope="session")
def helm(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The program. Without it every test here fails."""
    return unpack(tmp_path_factory.mktemp("helm"))


@pytest.fixture(scope="session", params=VALUES)
def values(request: pytest.FixtureRequest) -> tuple[str, ...]:
    """Each set of values in turn, as helm's words."""
    return VALUES[request.param]


@pytest.fixture(scope="session")
def chart(helm: Path, values: tuple[str, ...]) -> Chart:
    """Rendered with each set in turn."""
    return render(helm, values)


@pytest.fixture(scope="session")
def everything(helm: Path) -> Chart:
    """Rendered with all that there is."""
    return render(helm, VALUES["everything"])
