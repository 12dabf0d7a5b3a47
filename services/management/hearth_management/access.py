"""API keys and usage, as the API lets them be managed: nobody locks themselves out, users see what is theirs."""

from datetime import UTC, date, datetime, timedelta

from hearth_access.key_store import KeyStore
from hearth_access.usage_store import UsageStore
from hearth_contracts.access import ApiKey, KeyChange, KeyRequest, NewKey, Role, UsageRow
from hearth_contracts.base import now
from hearth_contracts.errors import Conflict, Invalid
from hearth_web.asker import asker
from redis import Redis

DEFAULT_DAYS = 30
MOST_DAYS = 366


def create_key(redis: Redis, request: KeyRequest) -> NewKey:
    """Make a key. Raises Conflict for a first key that could not make others: from then on one is needed."""
    store = KeyStore(redis)
    if request.role is not Role.ADMIN and not _admins(store.all()):
        raise Conflict("the first key must have the role admin: once there is a key, only an admin can make others")
    return store.create(request)


def change_key(redis: Redis, key_id: str, wanted: KeyChange) -> ApiKey:
    """Change a key. Raises NotFound, Conflict."""
    store = KeyStore(redis)
    if wanted.expires_at is not None and wanted.expires_at <= now():
        _refuse_last_admin(store, key_id)
    return store.change(key_id, wanted)


def revoke_key(redis: Redis, key_id: str) -> None:
    """Revoke a key. Raises NotFound, and Conflict for the last one that could make others."""
    store = KeyStore(redis)
    _refuse_last_admin(store, key_id)
    store.revoke(key_id)


def used(redis: Redis, first: date | None, last: date | None, key_id: str | None, model: str | None) -> list[UsageRow]:
    """Usage by day, key and model; a user's own alone. Raises Invalid for days that make no span."""
    asking = asker()
    if asking.role is not Role.ADMIN:
        if key_id not in (None, asking.key_id):
            return []
        key_id = asking.key_id
    last = last or datetime.now(UTC).date()
    first = first or last - timedelta(days=DEFAULT_DAYS - 1)
    if not 0 <= (last - first).days < MOST_DAYS:
        raise Invalid(f"from {first} to {last} is no span of 1 to {MOST_DAYS} days")
    return UsageStore(redis).read(first, last, key_id, model)


def _admins(keys: list[ApiKey]) -> list[ApiKey]:
    moment = now()
    return [
        key
        for key in keys
        if key.role is Role.ADMIN and key.revoked_at is None and (key.expires_at is None or key.expires_at > moment)
    ]


def _refuse_last_admin(store: KeyStore, key_id: str) -> None:
    if [key.id for key in _admins(store.all())] == [key_id]:
        raise Conflict(f"{key_id} is the last key with the role admin; make another one first")
