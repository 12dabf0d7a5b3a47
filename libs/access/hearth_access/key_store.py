"""API keys in Redis. Revoked ones stay recorded: usage and audit name them, and a door once locked stays locked."""

from dataclasses import dataclass
from uuid import uuid4

from hearth_contracts.access import ApiKey, KeyChange, KeyRequest, NewKey
from hearth_contracts.base import Frozen, now
from hearth_contracts.errors import Conflict, NotFound
from redis import Redis
from redis.client import Pipeline

from hearth_access import redis_keys
from hearth_access.secret import digest, new_key_id, new_secret


class _Record(Frozen):
    """A key as it lies in Redis."""

    key: ApiKey
    sha256: str  # of the secret, in hex


@dataclass(frozen=True)
class StoredKey:
    """A key, and what its secret is checked against."""

    key: ApiKey
    digest: bytes


class KeyStore:
    """Every change is one transaction and gives the whole a new version, by which gateways learn of it.

    Every method raises redis.ConnectionError or redis.TimeoutError when Redis is away.
    """

    def __init__(self, redis: Redis) -> None:
        self.redis = redis

    def create(self, request: KeyRequest) -> NewKey:
        """Make a key and give its secret, which is stored nowhere."""
        made: list[NewKey] = []

        def change(pipe: Pipeline) -> None:
            key_id = new_key_id()
            while pipe.hexists(redis_keys.KEYS, key_id):
                key_id = new_key_id()
            secret = new_secret(key_id)
            key = ApiKey(**dict(request), id=key_id, created_at=now())
            pipe.multi()
            _put(pipe, _Record(key=key, sha256=digest(secret.encode()).hex()))
            made[:] = [NewKey(**dict(key), secret=secret)]

        self.redis.transaction(change, redis_keys.KEYS)
        return made[0]

    def all(self) -> list[ApiKey]:
        """Every key that was ever made, newest first."""
        return sorted((each.key for each in self.stored()), key=lambda key: key.created_at, reverse=True)

    def change(self, key_id: str, wanted: KeyChange) -> ApiKey:
        """Change what `wanted` names. Raises NotFound, Conflict for a revoked key."""
        nullable = ("models", "expires_at")
        named = {name: getattr(wanted, name) for name in wanted.model_fields_set}
        fields = {name: value for name, value in named.items() if value is not None or name in nullable}
        if "limits" in wanted.model_fields_set and wanted.limits is None:
            fields["limits"] = KeyRequest.model_fields["limits"].default
        return self._update(key_id, fields)

    def revoke(self, key_id: str) -> ApiKey:
        """Let the key open nothing any more; idempotent. Raises NotFound."""
        return self._update(key_id, {"revoked_at": now()})

    def forget_all(self) -> int:
        """Forget every key, so that none is asked for where Hearth may be open. Returns how many there were."""
        pipe = self.redis.pipeline(transaction=True)
        pipe.hlen(redis_keys.KEYS)
        pipe.delete(redis_keys.KEYS)
        pipe.set(redis_keys.VERSION, uuid4().hex)
        count: int = pipe.execute()[0]
        return count

    def version(self) -> object:
        """Something that is another after any change of a key; None before the first."""
        return self.redis.get(redis_keys.VERSION)

    def stored(self) -> list[StoredKey]:
        """Every key with its digest, revoked ones too."""
        records = map(_Record.model_validate_json, self.redis.hvals(redis_keys.KEYS))
        return [StoredKey(record.key, bytes.fromhex(record.sha256)) for record in records]

    def _update(self, key_id: str, fields: dict[str, object]) -> ApiKey:
        changed: list[ApiKey] = []

        def change(pipe: Pipeline) -> None:
            body = pipe.hget(redis_keys.KEYS, key_id)
            if body is None:
                raise NotFound(f"there is no API key {key_id!r}")
            record = _Record.model_validate_json(body)
            pipe.multi()
            if record.key.revoked_at is None:
                key = ApiKey(**(dict(record.key) | fields))
                _put(pipe, _Record(key=key, sha256=record.sha256))
                changed[:] = [key]
            elif "revoked_at" in fields:
                changed[:] = [record.key]
            else:
                raise Conflict(f"the API key {key_id!r} was revoked; make another")

        self.redis.transaction(change, redis_keys.KEYS)
        return changed[0]


def _put(pipe: Pipeline, record: _Record) -> None:
    pipe.hset(redis_keys.KEYS, record.key.id, record.model_dump_json())
    pipe.set(redis_keys.VERSION, uuid4().hex)
