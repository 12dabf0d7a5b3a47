"""The version of the state: no program writes into what a newer Hearth wrote."""

import os
import subprocess
from pathlib import Path

import pytest
from hearth_jobs import keys
from hearth_jobs.state import STATE_VERSION, StateTooNew, check_state, take_state
from hearth_local.config import Config, Ports, Secrets
from hearth_local.programs import PROGRAMS, Context
from redis import Redis


def test_a_new_platform_is_marked_once(redis: Redis) -> None:
    assert check_state(redis) == STATE_VERSION
    redis.set(keys.STATE_VERSION, STATE_VERSION + 1)
    with pytest.raises(StateTooNew):
        check_state(redis)
    assert redis.get(keys.STATE_VERSION) == str(STATE_VERSION + 1).encode()


def test_the_version_rises_when_a_service_starts_and_never_falls(redis: Redis) -> None:
    redis.set(keys.STATE_VERSION, 1)
    assert check_state(redis) == 1  # a look, as a backup takes it, changes nothing
    assert redis.get(keys.STATE_VERSION) == b"1"
    take_state(redis)
    assert redis.get(keys.STATE_VERSION) == str(STATE_VERSION).encode()
    redis.set(keys.STATE_VERSION, STATE_VERSION + 1)
    with pytest.raises(StateTooNew):
        take_state(redis)
    assert redis.get(keys.STATE_VERSION) == str(STATE_VERSION + 1).encode()


def test_no_program_starts_on_the_data_of_a_newer_hearth(redis: Redis, redis_url: str, tmp_path: Path) -> None:
    redis.set(keys.STATE_VERSION, STATE_VERSION + 1)
    context = Context(Config(tmp_path, Ports.free()), Secrets("", "", ""))
    env = {**os.environ, "HEARTH_HOME": str(tmp_path), "HEARTH_REDIS_URL": redis_url}
    programs = {" ".join(each.command(context)): each for each in PROGRAMS if not each.is_store}  # each kind once
    started = {
        each.name: subprocess.Popen(
            each.command(context), env={**env, **each.env}, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        for each in programs.values()
    }
    try:
        said = {name: (process.communicate(timeout=60)[0], process.returncode) for name, process in started.items()}
    finally:
        for process in started.values():
            process.kill()
    why = f"not started: the data has state version {STATE_VERSION + 1}, and this Hearth knows {STATE_VERSION}"
    assert {name: (why in words, code) for name, (words, code) in said.items()} == dict.fromkeys(started, (True, 1))
    assert redis.keys() == [keys.STATE_VERSION.encode()]
