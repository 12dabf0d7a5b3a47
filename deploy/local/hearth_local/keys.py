"""`python -m hearth_local keys create|list|revoke|forget-all`: API keys, straight in Redis.

So the first key can be made before anybody else can reach the gateway, and when the last admin's secret is lost.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

import typer
from hearth_contracts.errors import HearthError
from pydantic import ValidationError

from hearth_local.config import CannotStart, Config, load_secrets
from hearth_local.key_commands import console, errors, key_commands

if TYPE_CHECKING:
    from hearth_access.key_store import KeyStore


@contextmanager
def _store() -> "Iterator[KeyStore]":
    """The keys in Redis; what can go wrong is one line and exit code 1."""
    from hearth_access.key_store import KeyStore
    from hearth_jobs.config import RedisSettings
    from hearth_jobs.connection import connect
    from redis.exceptions import RedisError

    from hearth_local.programs import Context

    try:
        if os.environ.get("HEARTH_REDIS_URL"):
            yield KeyStore(connect(RedisSettings()))
        else:
            config = Config.from_environment()
            yield KeyStore(Context(config, load_secrets(config)).redis())
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


app = key_commands(_store)


@app.command()
def forget_all(yes: Annotated[bool, typer.Option("--yes", help="do it without asking")] = False) -> None:
    """Forget every key, so that no key is needed on loopback, as in the beginning."""
    if not yes:
        typer.confirm("From then on whoever can use this machine may do everything. Forget every key?", abort=True)
    with _store() as store:
        count = store.forget_all()
    console.print(f"{count} keys forgotten")
