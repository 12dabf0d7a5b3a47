"""Who holds which replica, on a real server."""

import pytest
from hearth_jobs.replicas import ReplicaStore
from hearth_jobs.store import StaleAttempt
from redis import Redis


@pytest.fixture
def store(redis: Redis) -> ReplicaStore:
    return ReplicaStore(redis)


def test_each_replica_has_one_holder_and_there_are_no_more_than_asked_for(store: ReplicaStore) -> None:
    claimed = [store.claim("default", 2, owner) for owner in ("a", "b", "c")]
    assert [each and (each.index, each.owner) for each in claimed] == [(0, "a"), (1, "b"), None]
    assert store.claim("embedding", 1, "c"), "another deployment has its own"
    assert [each.name for each in store.held()] == ["default:0", "default:1", "embedding:0"]


def test_what_is_given_back_is_claimed_anew_and_the_old_claim_is_worth_nothing(store: ReplicaStore) -> None:
    first = store.claim("default", 1, "a")
    assert first is not None
    store.renew(first)
    store.release(first)
    assert store.held() == []
    again = store.claim("default", 1, "b")
    assert again is not None
    assert again.attempt == first.attempt + 1
    for late in (store.renew, store.release):
        with pytest.raises(StaleAttempt):
            late(first)
    assert [each.owner for each in store.held()] == ["b"]


def test_a_dead_nodes_replica_is_freed_once_by_the_judge_and_not_while_its_lease_holds(store: ReplicaStore) -> None:
    first = store.claim("default", 1, "a")
    assert first is not None
    assert not store.free(first), "its lease holds, and nothing proves its death"
    assert store.claim("default", 1, "b") is None, "a claim never takes what another holds"
    assert store.free(first, proven=True)
    assert not store.free(first, proven=True)
    assert store.claim("default", 1, "b")
    with pytest.raises(StaleAttempt):
        store.renew(first)
