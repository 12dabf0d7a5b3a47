"""What the tests of containers share."""

import pytest

from tests.conftest import Running
from tests.support.containers import Compose


@pytest.fixture(scope="session")
def compose(platform: Running) -> Compose:
    """The project that the platform is."""
    assert isinstance(platform.platform, Compose), "these tests are run with --compose"
    return platform.platform
