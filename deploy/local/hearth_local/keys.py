"""`python -m hearth_local keys create|list|revoke|forget-all`: API keys, straight in Redis.

So the first key can be made before anybody else can reach the gateway, and when the last admin's secret is lost.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Annotated

import typer
from hearth_access.key_store import KeyStore
from hearth_contracts.access import ApiKey, KeyRequest, Limits, Role
from hearth_contracts.errors import HearthError
from hearth_jobs.config import RedisSettings
from hearth_jobs.connection import connect
from pydantic import ValidationError
from redis.exceptions import RedisError
from rich.console import Console
from rich.table import Table

from hearth_local.config import CannotStart, Config, load_secrets
from hearth_local.programs import Context

app = typer.Typer(no_args_is_help=True, help="API keys: make, list and revoke them.")
console = Console(highlight=False, soft_wrap=True)
errors = Console(stderr=True, highlight=False, soft_wrap=True)

Limit = Annotated[int | None, typer.Option(help="none without it")]


@app.command()
def create(
    name: Annotated[str, typer.Argument(help="what to call it, e.g. who will use it")],
    role: Annotated[Role, typer.Option(help="admin: everything; user: inference and own datasets")] = Role.USER,
    model: Annotated[list[str] | None, typer.Option(help="a model it may ask, by its served name; repeatable")] = None,
    days: Annotated[int | None, typer.Option(help="days until it expires; never without it")] = None,
    requests_per_minute: Limit = None,
    tokens_per_minute: Limit = None,
    concurrent_requests: Limit = None,
    concurrent_streams: Limit = None,
) -> None:
    """Make a key, and print its secret: the only time it is shown."""
    with _told():
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
        key = _store().create(request)
    errors.print(f"key {key.id}, {key.role.value}; it is needed from now on, as `Authorization: Bearer <secret>`:")
    console.print(key.secret, markup=False)


@app.command(name="list")
def list_all() -> None:
    """Show every key; no secret is stored."""
    with _told():
        keys = _store().all()
    table = Table("id", "name", "role", "state", "models", "limits", "made")
    for key in keys:
        limits = ", ".join(f"{value} {name.replace('_', ' ')}" for name, value in key.limits if value is not None)
        made = f"{key.created_at:%Y-%m-%d %H:%M}"
        table.add_row(key.id, key.name, key.role.value, _state(key), ", ".join(key.models or ["all"]), limits, made)
    console.print(table if keys else "there are no keys: whoever can reach the gateway may do everything")


@app.command()
def revoke(key_id: Annotated[str, typer.Argument(help="the id that `list` shows")]) -> None:
    """Let a key open nothing any more; the gateways know within a second."""
    with _told():
        key = _store().revoke(key_id)
    console.print(f"key {key.id} ({key.name}) is revoked", markup=False)


@app.command()
def forget_all(yes: Annotated[bool, typer.Option("--yes", help="do it without asking")] = False) -> None:
    """Forget every key, so that no key is needed on loopback, as in the beginning."""
    if not yes:
        typer.confirm("From then on whoever can use this machine may do everything. Forget every key?", abort=True)
    with _told():
        count = _store().forget_all()
    console.print(f"{count} keys forgotten")


def _store() -> KeyStore:
    if os.environ.get("HEARTH_REDIS_URL"):
        return KeyStore(connect(RedisSettings()))
    config = Config.from_environment()
    return KeyStore(Context(config, load_secrets(config)).redis())


def _state(key: ApiKey) -> str:
    if key.revoked_at is not None:
        return "revoked"
    return "expired" if key.expires_at is not None and key.expires_at <= datetime.now(UTC) else "live"


@contextmanager
def _told() -> Iterator[None]:
    """What can go wrong, as one line and exit code 1."""
    try:
        yield
    except ValidationError as error:
        reason = "; ".join(f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}" for fault in error.errors())
    except RedisError as error:
        reason = f"Redis does not answer ({error}); `make up` starts it"
    except (HearthError, CannotStart) as error:
        reason = str(error)
    else:
        return
    errors.print(reason, markup=False)
    raise typer.Exit(1)
