"""Exit codes, and which of them each trouble has."""

from enum import IntEnum
from typing import Any

import typer
from hearth_client import HearthClientError, JobFailed, NotReached, Refused, Superseded, UnexpectedReply
from pydantic import ValidationError
from typer.core import TyperGroup

from hearth_cli.console import complain


class ExitCode(IntEnum):
    """What a script can tell by."""

    OK = 0
    FAILED = 1  # a job failed or was killed; a check found a fault; a program is not ready
    USAGE = 2  # the command cannot be read, or a file is not there
    NOT_REACHED = 3  # Hearth does not answer
    REFUSED = 4  # Hearth answered with an error: not found, not allowed, not possible
    INTERRUPTED = 130  # Ctrl-C; what was begun goes on


EXIT_CODES = (
    "Exit codes: 0 done; 1 a job failed or something is at fault; 2 wrong usage; 3 Hearth is not reached; "
    "4 Hearth refused; 130 interrupted."
)

_CODES: list[tuple[type[HearthClientError], ExitCode]] = [
    (JobFailed, ExitCode.FAILED),
    (Superseded, ExitCode.FAILED),
    (Refused, ExitCode.REFUSED),
    (NotReached, ExitCode.NOT_REACHED),
    (UnexpectedReply, ExitCode.NOT_REACHED),
]


class Commands(TyperGroup):
    """A group that turns what can go wrong into words and an exit code."""

    def invoke(self, ctx: Any) -> Any:
        """Run the command. Raises typer.Exit."""
        try:
            return super().invoke(ctx)
        except HearthClientError as error:
            complain(error.what, *filter(None, (error.where, error.remedy)))
            code = next(code for kind, code in _CODES if isinstance(error, kind))
        except ValidationError as error:
            complain("; ".join(f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}" for fault in error.errors()))
            code = ExitCode.USAGE
        except OSError as error:
            complain(f"{error.filename}: {error.strerror}" if error.filename else str(error))
            code = ExitCode.USAGE
        raise typer.Exit(code)
