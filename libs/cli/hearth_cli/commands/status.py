"""`hearth status`: the whole at a glance."""

import os
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import typer
from hearth_client import Hearth, HearthClientError, NotReached
from hearth_contracts.deploy import NamedDeployment
from hearth_contracts.jobs import Job, JobKind, JobStatus
from hearth_local.commands import program_table
from rich.console import Group
from rich.live import Live
from rich.markup import escape

from hearth_cli.commands.deploy import deployment_table
from hearth_cli.commands.doctor import this_platform
from hearth_cli.console import Json, Watch, console, hearth, job_table, print_json
from hearth_cli.exits import ExitCode

if TYPE_CHECKING:
    from hearth_local.platform import ProgramStatus

WATCH_SECONDS = 2.0
AT_WORK = [kind for kind in JobKind if kind is not JobKind.DEPLOY]


@dataclass(frozen=True)
class Overview:
    """What there is to see."""

    programs: "list[ProgramStatus]"  # of this machine's platform; empty for one elsewhere
    deployments: list[NamedDeployment]
    jobs: list[Job]  # that wait or run; deployments are jobs too, and left out
    untold: str = ""  # why the API told nothing, where the programs at least can be seen

    @property
    def ready(self) -> bool:
        """Whether every program is."""
        return all(program.ready for program in self.programs)

    def shown(self) -> Group:
        """For people."""
        programs = [program_table(self.programs)] if self.programs else []
        if self.untold:
            return Group(*programs, escape(self.untold))
        return Group(*programs, deployment_table(self.deployments), "jobs at work:", job_table(self.jobs))


def status(watch: Watch = False, as_json: Json = False) -> None:
    """Programs, deployments and jobs; exit code 1 when a program is not ready, 3 when Hearth is down."""
    with hearth() as client:
        found = _look(client)
        if watch:
            with Live(found.shown(), console=console, auto_refresh=False) as live:
                while True:
                    time.sleep(WATCH_SECONDS)
                    found = _look(client)
                    live.update(found.shown(), refresh=True)
    if as_json:
        print_json(found)
    else:
        console.print(found.shown())
    if not found.ready:
        raise typer.Exit(ExitCode.FAILED)


def _look(client: Hearth) -> Overview:
    """What there is right now. Raises HearthClientError where nothing can be seen."""
    programs = [] if os.environ.get("HEARTH_URL") else this_platform().status()
    if not programs and not os.environ.get("HEARTH_URL"):
        raise NotReached("Hearth is down on this machine", remedy="`hearth up` starts it; HEARTH_URL names another")
    try:
        return Overview(
            programs, client.deploy.list(), client.jobs.list(AT_WORK, [JobStatus.CREATED, JobStatus.RUNNING])
        )
    except HearthClientError as error:
        if not programs:
            raise
        return Overview(programs, [], [], str(error))
