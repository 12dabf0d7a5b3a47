"""What is left of a key's limits, however many gateways spend of it."""

import pytest
from hearth_access.rate_store import RateStore, Spent
from redis import Redis


def spent(requests: int = 0, tokens: int = 0, at_work: int = 0, streams: int = 0) -> Spent:
    return Spent("k", 600, requests, 6000, tokens, at_work, streams)


def test_gateways_spend_of_one_allowance_which_fills_again_but_never_over(redis: Redis) -> None:
    one, other = RateStore(redis, "one"), RateStore(redis, "other")
    (left,) = one.settle([spent(requests=100, tokens=9000)])
    assert (left.requests, left.tokens) == (500, -3000)  # a debt: what was spent is never forgotten
    (left,) = other.settle([spent(requests=50)])
    assert left.requests == pytest.approx(450, abs=20)
    redis.hincrby("hearth:rate:k", "at", -60_000)  # as if a minute had passed
    (left,) = one.settle([spent()])
    assert left.requests == 600
    assert left.tokens == pytest.approx(3000, abs=200)


def test_what_others_have_at_work_is_told_until_they_fall_silent(redis: Redis) -> None:
    one, other = RateStore(redis, "one"), RateStore(redis, "other")
    (mine,) = one.settle([spent(at_work=3, streams=2)])
    assert (mine.at_work_elsewhere, mine.streams_elsewhere) == (0, 0)
    (seen,) = other.settle([spent(at_work=1)])
    assert (seen.at_work_elsewhere, seen.streams_elsewhere) == (3, 2)
    said = redis.hget("hearth:rate:k", "@one")
    assert isinstance(said, bytes)
    requests, streams, at = said.split()
    redis.hset("hearth:rate:k", "@one", b" ".join([requests, streams, b"%d" % (int(at) - 4000)]))
    (seen,) = other.settle([spent(at_work=1)])
    assert (seen.at_work_elsewhere, seen.streams_elsewhere) == (0, 0)


def test_several_keys_are_settled_in_one_round_in_order(redis: Redis) -> None:
    keys = [Spent(name, 60, number, 0, 0, 0, 0) for number, name in enumerate("abc")]
    left = RateStore(redis, "one").settle(keys)
    assert [each.requests for each in left] == [60, 59, 58]
    assert all(60 < redis.ttl(f"hearth:rate:{name}") <= 180 for name in "abc")  # type: ignore[operator]
