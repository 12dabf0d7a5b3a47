"""`hearth deploy`: what is served."""

from enum import StrEnum
from typing import Annotated

import typer
from hearth_client.resources import DeploymentName
from hearth_contracts.deploy import DeployStatus, NamedDeployment
from rich.table import Table

from hearth_cli.begun import finish_deployment, fit_table, settings
from hearth_cli.console import DryRun, Json, Setting, Watch, hearth, job_table, show, table

app = typer.Typer(no_args_is_help=True, help="What is served.")


class Slot(StrEnum):
    """Names of deployments."""

    DEFAULT = "default"
    EMBEDDING = "embedding"
    RERANK = "rerank"


Name = Annotated[Slot, typer.Option(help="default is the LLM")]
Which = Annotated[Slot, typer.Argument(help="default is the LLM")]
Adapters = Annotated[list[str] | None, typer.Option("--adapter", help="an adapter's id; repeatable")]


IdleAfter = Annotated[
    int | None,
    typer.Option(min=0, help="seconds without a request after which no engine runs until the next; 0: never"),
]


MaxReplicas = Annotated[
    int | None,
    typer.Option("--max", min=0, help="inference nodes that may serve it when its load takes more; 0: no more"),
]


@app.command()
def create(
    model_id: Annotated[str, typer.Argument(help="the base model's id")],
    adapter: Adapters = None,
    given: Setting = None,
    name: Name = Slot.DEFAULT,
    replicas: Annotated[
        int | None, typer.Option(min=1, help="inference nodes that serve it; as before without it")
    ] = None,
    max_replicas: MaxReplicas = None,
    idle_after: IdleAfter = None,
    watch: Watch = False,
    dry_run: DryRun = False,
    as_json: Json = False,
) -> None:
    """Serve a model with adapters. Engine settings: --set max_model_len=4096 ..."""
    engine, adapters, slot = settings(given), adapter or [], _slot(name)
    with hearth() as client:
        if dry_run:
            report = client.deploy.estimate(model_id, adapters, engine, slot)
            show(report, as_json, lambda: fit_table(report))
        else:
            begun = client.deploy(model_id, adapters, engine, slot, replicas, idle_after, max_replicas)
            finish_deployment(begun, watch, as_json)


@app.command()
def status(name: Annotated[Slot | None, typer.Argument(help="all without it")] = None, watch: Watch = False,
           as_json: Json = False) -> None:  # fmt: skip
    """Show what is served, and how it does."""
    with hearth() as client:
        if watch:
            finish_deployment(client.deploy.current(_slot(name or Slot.DEFAULT)), watch, as_json)
            return
        found = [client.deploy.status(_slot(name))] if name else client.deploy.list()
    show(found, as_json, lambda: deployment_table(found))


@app.command()
def undeploy(name: Which = Slot.DEFAULT, as_json: Json = False) -> None:
    """Stop serving."""
    with hearth() as client:
        job = client.deploy.undeploy(_slot(name))
    show(job, as_json, lambda: job_table([job]))


@app.command()
def scale(
    replicas: Annotated[int | None, typer.Argument(min=1, help="inference nodes that are to serve it")] = None,
    name: Name = Slot.DEFAULT,
    max_replicas: MaxReplicas = None,
    idle_after: IdleAfter = None,
    as_json: Json = False,
) -> None:
    """Serve what is deployed on more or fewer nodes, as its load takes, or on none while nobody asks."""
    with hearth() as client:
        found = client.deploy.scale(replicas, _slot(name), idle_after, max_replicas)
    show(found, as_json, lambda: deployment_table([found]))


@app.command()
def swap(
    adapter: Adapters = None,
    add: Annotated[list[str] | None, typer.Option(help="one more adapter; repeatable")] = None,
    remove: Annotated[list[str] | None, typer.Option(help="one adapter less; repeatable")] = None,
    watch: Watch = False,
    as_json: Json = False,
) -> None:
    """Serve the same base with other adapters: --adapter names all of them, --add and --remove change the list."""
    with hearth() as client:
        served = client.deploy.current().status()
        kept = [each for each in (adapter or served.adapter_ids) if each not in (remove or [])]
        adapters = [*kept, *(each for each in add or [] if each not in kept)]
        finish_deployment(client.deploy(served.model_id, adapters, served.engine), watch, as_json)


def deployment_table(found: list[NamedDeployment]) -> Table | str:
    """Deployments, a row each."""
    rows = [(each.name, each.served_name, *_cells(each.status)) for each in found]
    return table(("name", "asked as", "state", "ready", "model", "adapters", "detail"), rows)


def _slot(name: Slot) -> DeploymentName:
    return name.value


def _cells(status: DeployStatus | None) -> tuple[object, ...]:
    if status is None:
        return ("", "", "nothing", "", "")
    replicas = status.replicas
    ready = f"{replicas.ready}/{replicas.desired}" + (f" ({replicas.min} to {replicas.max})" if replicas.max else "")
    detail = status.detail or status.job.stage
    return status.state, ready, status.model_id, ", ".join(status.adapter_ids), detail
