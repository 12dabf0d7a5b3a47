"""How long first tokens take: histograms that gateways add up in Redis."""

import pytest
from hearth_jobs.first_tokens import FEWEST, Counts, bring, lately
from redis import Redis


def counted(*seconds: float) -> Counts:
    counts = Counts()
    for each in seconds:
        counts.add(each)
    return counts


def test_a_percentile_lies_within_the_bucket_of_the_stream_that_it_is_about() -> None:
    counts = counted(*[0.02] * 90, *[7.0] * 10)
    assert counts.percentile(0.95) == pytest.approx(7.5)  # the middle of 5 to 10
    assert 0.01 < (counts.percentile(0.5) or 0) <= 0.025
    assert counted(*[0.001] * FEWEST).percentile(1.0) == 0.005
    assert counted(*[1000.0] * FEWEST).percentile(0.95) == 300


def test_of_a_few_streams_no_percentile_is_told() -> None:
    assert counted(*[100.0] * (FEWEST - 1)).percentile(0.95) is None
    assert counted().percentile(0.95) is None


def test_what_several_gateways_count_is_added_and_what_is_old_does_not_count(redis: Redis) -> None:
    for _ in range(2):
        bring(redis, {"default": counted(*[0.02] * 18, 7.0), "embedding": counted(1.0)}, 1009.0)
    bring(redis, {"default": counted(7.0)}, 1011.0)
    assert lately(redis, "default", 1012.0).by_bucket == counted(*[0.02] * 36, *[7.0] * 3).by_bucket
    assert lately(redis, "default", 1020.0).by_bucket == counted(7.0).by_bucket
    assert sum(lately(redis, "default", 1030.0).by_bucket) == 0
    assert all(0 < redis.ttl(key) <= 30 for key in redis.scan_iter("hearth:first-tokens:*"))
