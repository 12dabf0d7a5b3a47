"""Commands that make, list and revoke API keys, wherever the keys are kept."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Protocol

import typer
from hearth_contracts.access import ApiKey, KeyRequest, Limits, NewKey, Role
from pydantic_core import to_json
from rich.console import Console
from rich.table import Table

console = Console(highlight=False, soft_wrap=True)
errors = Console(stderr=True, highlight=False, soft_wrap=True)

Limit = Annotated[int | None, typer.Option(help="none without it")]
Json = Annotated[bool, typer.Option("--json", help="as JSON, for scripts")]


class KeyBook(Protocol):
    """Where keys are kept."""

    def create(self, request: KeyRequest, /) -> NewKey:
        """Make one."""

    def all(self) -> Sequence[ApiKey]:
        """All of them, newest first."""

    def revoke(self, key_id: str, /) -> Any:
        """Let one open nothing any more."""


def key_commands(book: Callable[[], AbstractContextManager[KeyBook]]) -> typer.Typer:
    """The commands over the keys that `book` opens."""
    app = typer.Typer(no_args_is_help=True, help="API keys: make, list and revoke them.")

    @app.command()
    def create(
        name: Annotated[str, typer.Argument(help="what to call it, e.g. who will use it")],
        role: Annotated[Role, typer.Option(help="admin: everything; user: inference and own datasets")] = Role.USER,
        model: Annotated[
            list[str] | None, typer.Option(help="a model it may ask, by its served name; repeatable")
        ] = None,
        days: Annotated[int | None, typer.Option(help="days until it expires; never without it")] = None,
        requests_per_minute: Limit = None,
        tokens_per_minute: Limit = None,
        concurrent_requests: Limit = None,
        concurrent_streams: Limit = None,
        as_json: Json = False,
    ) -> None:
        """Make a key, and print its secret: the only time it is shown."""
        with book() as keys:
            request = KeyRequest(
                name=name,
                role=role,
                models=tuple(model) if model else None,
                expires_at=datetime.now(UTC) + timedelta(days=days) if days is not None else None,
                limits=Limits(
                    requests_per_minute=requests_per_minute,
                    tokens_per_minute=tokens_per_minute,
                    concurrent_requests=concurrent_requests,
                    concurrent_streams=concurrent_streams,
                ),
            )
            key = keys.create(request)
        if as_json:
            typer.echo(to_json(key, indent=2))
            return
        errors.print(f"key {key.id}, {key.role.value}; it is needed from now on, as `Authorization: Bearer <secret>`:")
        console.print(key.secret, markup=False)

    @app.command(name="list")
    def list_all(as_json: Json = False) -> None:
        """Show every key; no secret is stored."""
        with book() as keys:
            found = keys.all()
        if as_json:
            typer.echo(to_json(found, indent=2))
            return
        table = Table("id", "name", "role", "state", "models", "limits", "made")
        for key in found:
            limits = ", ".join(f"{value} {name.replace('_', ' ')}" for name, value in key.limits if value is not None)
            made = f"{key.created_at:%Y-%m-%d %H:%M}"
            table.add_row(key.id, key.name, key.role.value, _state(key), ", ".join(key.models or ["all"]), limits, made)
        console.print(table if found else "there are no keys: whoever can reach the gateway may do everything")

    @app.command()
    def revoke(key_id: Annotated[str, typer.Argument(help="the id that `list` shows")]) -> None:
        """Let a key open nothing any more; the gateways know within a second."""
        with book() as keys:
            keys.revoke(key_id)
        console.print(f"key {key_id} is revoked", markup=False)

    return app


def _state(key: ApiKey) -> str:
    if key.revoked_at is not None:
        return "revoked"
    return "expired" if key.expires_at is not None and key.expires_at <= datetime.now(UTC) else "live"
