"""`hearth`: every command."""

import typer
from hearth_local import commands as local

from hearth_cli.commands import chat, datasets, deploy, doctor, finetune, jobs, keys, models, status, usage
from hearth_cli.exits import EXIT_CODES, Commands

HELP = f"""Hearth from a terminal.

HEARTH_URL is the platform's address, this machine's without it; HEARTH_API_KEY the key, where one is needed.

{EXIT_CODES}"""

app = typer.Typer(cls=Commands, no_args_is_help=True, help=HELP, pretty_exceptions_show_locals=False)

app.command()(local.up)
app.command()(local.down)
app.command()(status.status)
app.command()(local.logs)
app.command(name="backup")(local.backup_command)
app.command(name="restore")(local.restore_command)
app.add_typer(models.app, name="models")
app.add_typer(datasets.app, name="datasets")
app.add_typer(finetune.app, name="finetune")
app.add_typer(deploy.app, name="deploy")
app.add_typer(jobs.app, name="jobs")
app.command()(chat.chat)
app.add_typer(keys.app, name="keys")
app.command()(usage.usage)
app.command()(doctor.doctor)
app.command()(doctor.support_bundle)
