"""The gateway of the image."""

from tests.support.containers import Compose


def test_its_token_path_runs_compiled(compose: Compose) -> None:
    assert "the token path runs compiled" in compose.run("logs", "--no-color", "gateway")
