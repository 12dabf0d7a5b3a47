"""docs/cli.md names every command and exit code, and none that is not there."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from hearth_cli.app import app
from hearth_cli.exits import ExitCode
from typer.main import get_command

TEXT = (Path(__file__).parents[3] / "docs" / "cli.md").read_text(encoding="utf-8")


def commands(group: Any, *above: str) -> Iterator[tuple[str, ...]]:
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from commands(command, *above, name)
        else:
            yield (*above, name)


def named() -> Iterator[tuple[str, ...]]:
    """The first column of the first table: `hearth jobs list`, `show` means both."""
    for row in re.findall(r"^\| (`hearth .*?) \|", TEXT, flags=re.MULTILINE):
        above: tuple[str, ...] = ()
        for quoted in re.findall(r"`(.*?)`", row):
            words = tuple(quoted.removeprefix("hearth ").split())
            if quoted.startswith("hearth "):
                above = words[:-1]
                yield words
            else:
                yield (*above, *words)


def test_every_command_is_named_and_no_other() -> None:
    assert sorted(named()) == sorted(commands(get_command(app)))


def test_every_exit_code_is_explained() -> None:
    assert [int(code) for code in re.findall(r"^\| (\d+) \|", TEXT, flags=re.MULTILINE)] == list(ExitCode)
