"""API keys in Redis."""

import pytest
from hearth_access import redis_keys
from hearth_access.key_store import KeyStore
from hearth_access.secret import LENGTH, key_id_of, matches
from hearth_contracts.access import KeyChange, KeyRequest, Limits, Role
from hearth_contracts.errors import Conflict, NotFound
from redis import Redis


def test_a_secret_is_shown_once_and_stored_nowhere(redis: Redis) -> None:
    store = KeyStore(redis)
    made = store.create(KeyRequest(name="ci", role=Role.ADMIN))
    assert (len(made.secret), key_id_of(made.secret.encode())) == (LENGTH, made.id)
    assert matches(made.secret.encode(), store.stored()[0].digest)
    everything = b"".join(redis.hvals(redis_keys.KEYS))
    assert made.secret.encode() not in everything
    assert made.secret.rpartition("_")[2].encode() not in everything


def test_secrets_differ_and_open_only_their_own_key(redis: Redis) -> None:
    store = KeyStore(redis)
    one, other = (store.create(KeyRequest(name="same")) for _ in range(2))
    by_id = {each.key.id: each.digest for each in store.stored()}
    assert not matches(one.secret.encode(), by_id[other.id])


def test_every_change_is_seen_by_the_version(redis: Redis) -> None:
    store = KeyStore(redis)
    seen = [store.version()]
    key = store.create(KeyRequest(name="a"))
    seen.append(store.version())
    store.change(key.id, KeyChange(name="b"))
    seen.append(store.version())
    store.revoke(key.id)
    seen.append(store.version())
    store.forget_all()
    seen.append(store.version())
    assert len(set(map(str, seen))) == 5


def test_a_change_keeps_what_it_does_not_name_and_null_takes_limits_away(redis: Redis) -> None:
    store = KeyStore(redis)
    limits = Limits(requests_per_minute=5)
    key = store.create(KeyRequest(name="a", limits=limits, models=("LLM",)))
    changed = store.change(key.id, KeyChange(name="b"))
    assert (changed.name, changed.limits, changed.models) == ("b", limits, ("LLM",))
    changed = store.change(key.id, KeyChange(limits=None, models=None))
    assert (changed.name, changed.limits, changed.models) == ("b", Limits(), None)
    assert store.all() == [changed]


def test_a_revoked_key_stays_known_and_cannot_come_back(redis: Redis) -> None:
    store = KeyStore(redis)
    key = store.create(KeyRequest(name="a"))
    revoked = store.revoke(key.id)
    assert revoked.revoked_at is not None
    assert store.revoke(key.id) == revoked
    with pytest.raises(Conflict):
        store.change(key.id, KeyChange(name="b"))
    assert store.all() == [revoked]


def test_an_unknown_key_is_named_in_the_error(redis: Redis) -> None:
    with pytest.raises(NotFound, match="nothing"):
        KeyStore(redis).revoke("nothing")


@pytest.mark.parametrize("name", ["", "two\nlines", "nul\0", "x" * 101])
def test_a_name_is_one_short_line(name: str) -> None:
    with pytest.raises(ValueError, match="name"):
        KeyRequest(name=name)
