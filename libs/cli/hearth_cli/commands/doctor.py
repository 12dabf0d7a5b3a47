"""`hearth doctor` and `hearth support-bundle`: what is wrong here, and what to send to somebody who helps."""

import os
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from hearth_local.config import CannotStart
from hearth_local.findings import Finding, Verdict
from rich.markup import escape
from rich.table import Column, Table

from hearth_cli.console import Json, console, hearth, say, show
from hearth_cli.exits import ExitCode

if TYPE_CHECKING:
    from hearth_local.platform import Platform

COLOURS = {Verdict.OK: "green", Verdict.WARNING: "yellow", Verdict.FAULT: "red"}


def doctor(as_json: Json = False) -> None:
    """Find what is wrong with this machine and its platform, or with the one HEARTH_URL names; exit 1 on a fault."""
    findings = _elsewhere() if os.environ.get("HEARTH_URL") else _here()
    show(findings, as_json, lambda: _table(findings))
    faults = sum(finding.verdict is Verdict.FAULT for finding in findings)
    if not as_json:
        console.print(f"faults: {faults}" if faults else "no fault")
    if faults:
        raise typer.Exit(ExitCode.FAILED)


def _here() -> list[Finding]:
    from hearth_local.doctor import examine

    return examine(this_platform())


def _elsewhere() -> list[Finding]:
    from hearth_cli.elsewhere import examine_elsewhere

    with hearth() as client:
        return examine_elsewhere(client)


def support_bundle(
    file: Annotated[Path | None, typer.Argument(help="where to; hearth-support-<time>.tar.gz here without it")] = None,
) -> None:
    """Gather versions, settings, health, jobs and the ends of logs in a file, without secrets, prompts or rows."""
    from hearth_local.bundle import write_bundle

    target = file or Path(f"hearth-support-{datetime.now():%Y%m%d-%H%M%S}.tar.gz")
    names = write_bundle(this_platform(), target)
    say(f"{target} has {len(names)} parts; look through it before you send it: tar xzf {target}")


def this_platform() -> "Platform":
    """The platform of this machine. Raises typer.BadParameter for settings that cannot be."""
    from hearth_local.platform import Platform

    try:
        return Platform.from_environment()
    except CannotStart as reason:
        raise typer.BadParameter(str(reason)) from reason


def _table(findings: list[Finding]) -> Table:
    table = Table(*[Column(name, overflow="fold") for name in ("", "check", "found", "what to do")])
    for finding in findings:
        verdict = f"[{COLOURS[finding.verdict]}]{finding.verdict}[/]"
        table.add_row(verdict, finding.check, escape(finding.found), escape(finding.remedy))
    return table
