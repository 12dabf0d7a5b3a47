"""What was used, counted exactly once."""

from datetime import date

from hearth_access.usage_store import UsageOf, UsageStore
from hearth_contracts.access import UsageRow
from redis import Redis

DAY = date(2026, 3, 1)


def test_a_batch_sent_again_adds_nothing(redis: Redis) -> None:
    store = UsageStore(redis)
    used = {UsageOf("2026-03-01", "k", "org/a model"): [2, 10, 20, 0]}
    assert store.add("g", 1, used) is True
    assert store.add("g", 1, used) is False
    assert store.add("other", 1, used) is True
    assert store.add("g", 2, used) is True
    (row,) = store.read(DAY, DAY)
    assert row == UsageRow(
        day="2026-03-01", key_id="k", model="org/a model", requests=6, prompt_tokens=30, completion_tokens=60
    )


def test_what_is_read_is_of_the_days_key_and_model_asked_for(redis: Redis) -> None:
    store = UsageStore(redis)
    store.add(
        "g",
        1,
        {
            UsageOf("2026-02-28", "k", "a"): [1, 0, 0, 0],
            UsageOf("2026-03-01", "k", "a"): [2, 0, 0, 0],
            UsageOf("2026-03-01", "k", "b"): [3, 0, 0, 0],
            UsageOf("2026-03-01", "other", "a"): [4, 0, 0, 5],
            UsageOf("2026-03-02", "k", "a"): [6, 0, 0, 0],
        },
    )
    rows = store.read(date(2026, 2, 28), DAY)
    assert [(row.day, row.key_id, row.model, row.requests) for row in rows] == [
        ("2026-03-01", "k", "a", 2),
        ("2026-03-01", "k", "b", 3),
        ("2026-03-01", "other", "a", 4),
        ("2026-02-28", "k", "a", 1),
    ]
    assert [row.requests for row in store.read(DAY, DAY, key_id="k", model="a")] == [2]
    assert [row.embedding_tokens for row in store.read(DAY, DAY, key_id="other")] == [5]
