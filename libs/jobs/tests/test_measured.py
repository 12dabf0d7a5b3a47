"""A Redis that cannot write to its disk answers, and refuses every write: for Hearth it is away until it can."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from hearth_contracts.jobs import Job, JobKind
from hearth_jobs.measured import MeasuredRedis, RedisTakesNoWrites
from hearth_jobs.store import JobStore
from redis import Redis
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import ResponseError
from tenacity import retry, retry_if_result, stop_after_delay, wait_fixed

from tests.support.servers import valkey


@retry(retry=retry_if_result(lambda status: status != "err"), stop=stop_after_delay(10), wait=wait_fixed(0.02))
def last_save(server: Redis) -> str:
    return str(server.info("persistence")["rdb_last_bgsave_status"])


def begin(store: JobStore) -> Job:
    pipe = store.redis.pipeline(transaction=True)
    job = store.create(pipe, kind=JobKind.FINETUNE, name="FT_a_b", subject="s")
    pipe.execute()
    return job


def test_a_server_that_takes_no_writes_is_away_until_it_takes_them(tmp_path: Path) -> None:
    with valkey(tmp_path / "data") as server:
        client = MeasuredRedis(port=server.connection_pool.connection_kwargs["port"])
        store = JobStore(client)
        job = begin(store)
        server.config_set("save", "3600 1")
        shutil.rmtree(tmp_path / "data")  # nowhere to save to, and no full disk is needed for it
        server.bgsave()
        last_save(server)

        writes: list[Callable[[], object]] = [
            lambda: client.set("a", "b"),
            lambda: begin(store),
            lambda: store.claim(job.id, "somebody"),
        ]
        for write in writes:
            with pytest.raises(RedisTakesNoWrites):
                write()
        assert store.get(job.id) == job
        assert issubclass(RedisTakesNoWrites, RedisConnectionError)  # what everybody who waits for Redis waits for

        server.config_set("stop-writes-on-bgsave-error", "no")
        assert store.claim(job.id, "somebody") == 1


def test_other_errors_are_what_they_are(redis: Redis) -> None:
    client = MeasuredRedis(port=redis.connection_pool.connection_kwargs["port"])
    client.set("words", "a")
    with pytest.raises(ResponseError, match="not an integer"):
        client.incr("words")
