"""A platform with real stores: started, found in trouble, stopped; and nothing is left of it."""

import contextlib
import io
import os
import signal
import socket
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import httpx
import psutil
import pytest
from hearth_jobs.guard import relatives
from hearth_local import supervisor
from hearth_local.config import CannotStart, Config, Ports, load_secrets
from hearth_local.platform import Platform
from hearth_local.programs import PROGRAMS, Context, Program, s3_client
from redis import Redis
from redis.exceptions import AuthenticationError
from tenacity import retry, retry_if_result, stop_after_delay, wait_fixed

VALKEY, S3 = PROGRAMS[:2]


@retry(retry=retry_if_result(lambda held: not held), stop=stop_after_delay(20), wait=wait_fixed(0.05))
def eventually(condition: Callable[[], bool]) -> bool:
    return condition()


def nobody_left(platform: Platform) -> bool:
    return not relatives(platform.config.mark)


def script(name: str, code: str, ready: bool = False) -> Program:
    return Program(name, lambda _: [sys.executable, "-c", code], lambda _: ready)


def pid_of(platform: Platform, name: str) -> int:
    (pid,) = (program.pid for program in platform.status() if program.name == name)
    assert pid is not None
    return pid


def client(platform: Platform) -> Redis:
    return Context(platform.config, load_secrets(platform.config)).redis()


@contextlib.contextmanager
def stopped_after(platform: Platform) -> Iterator[Platform]:
    try:
        yield platform
    finally:
        platform.stop()
        assert nobody_left(platform)


@pytest.fixture
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With the characters that configuration files trip over; short, since a socket's path must be."""
    return tmp_path_factory.mktemp("p") / "my 100% home; really"


@pytest.fixture
def platform(home: Path) -> Iterator[Platform]:
    """Valkey alone, which is up in no time."""
    with stopped_after(Platform(Config(home, Ports.free()), [VALKEY])) as platform:
        platform.start()
        yield platform


def test_both_stores_come_up_and_refuse_strangers(home: Path) -> None:
    with stopped_after(Platform(Config(home, Ports.free()), [VALKEY, S3])) as platform:
        platform.start()
        assert [(program.name, program.ready) for program in platform.status()] == [("valkey", True), ("s3", True)]
        assert all(program.memory_bytes > 2**20 for program in platform.status())
        ports = platform.config.ports
        assert httpx.get(f"http://127.0.0.1:{ports['s3']}/").status_code == 403
        with Redis(port=ports["redis"]) as stranger, pytest.raises(AuthenticationError):
            stranger.ping()


def test_a_bucket_takes_so_little_of_the_disk_that_the_next_finds_room_on_a_small_one(home: Path) -> None:
    with stopped_after(Platform(Config(home, Ports.free()), [S3])) as platform:
        platform.start()
        client = s3_client(Context(platform.config, load_secrets(platform.config)))
        client.make_bucket(bucket_name="first")
        client.put_object(bucket_name="first", object_name="x", data=io.BytesIO(b"y"), length=1)
        assert len(list((home / "s3").glob("first_*.dat"))) == 2


def test_passwords_are_in_no_command_line_and_no_log_and_files_with_them_are_private(platform: Platform) -> None:
    keys = load_secrets(platform.config)
    secrets = [keys.redis_password, keys.s3_access_key, keys.s3_secret_key]
    for pid in relatives(platform.config.mark):
        assert not any(secret in word for word in psutil.Process(pid).cmdline() for secret in secrets)
    holders = set()
    for path in platform.home.rglob("*"):
        if path.is_file() and any(secret.encode() in path.read_bytes() for secret in secrets):
            holders.add(path.name)
            assert path.stat().st_mode & 0o077 == 0
    assert holders == {"secrets.env", "valkey.conf"}


def test_stopping_leaves_nobody_and_is_done_once(platform: Platform) -> None:
    assert not nobody_left(platform)
    platform.stop()
    assert nobody_left(platform)
    assert not platform.is_up()
    assert platform.status() == []
    platform.stop()


def test_what_is_stored_outlives_a_stop(platform: Platform) -> None:
    with client(platform) as redis:
        redis.set("kept", "yes")
    platform.stop()
    platform.start()
    with client(platform) as redis:
        assert redis.get("kept") == b"yes"


def test_a_killed_store_is_started_again_with_all_it_had_acknowledged(platform: Platform) -> None:
    guard = pid_of(platform, "valkey")
    with client(platform) as redis:
        redis.set("kept", "yes")
    (server,) = psutil.Process(guard).children()
    server.kill()
    eventually(lambda: any(program.ready and program.pid != guard for program in platform.status()))
    with client(platform) as redis:
        assert redis.get("kept") == b"yes"


def test_a_killed_supervisor_takes_everything_along_and_the_next_start_works(platform: Platform) -> None:
    os.kill(int(supervisor.pid_path(platform.config).read_text()), signal.SIGKILL)
    assert not platform.is_up()
    platform.start()  # at once: it waits for what is still ending
    assert all(program.ready for program in platform.status())
    os.kill(int(supervisor.pid_path(platform.config).read_text()), signal.SIGKILL)
    eventually(lambda: nobody_left(platform))


def test_stopping_kills_what_escaped_a_killed_supervisor_and_a_killed_guard(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hearth_local.platform.STOP_MARGIN_SECONDS", 0.5)
    deaf = "import signal, subprocess, sys; signal.signal(15, signal.SIG_IGN); "
    deaf += "subprocess.Popen([sys.executable, '-c', 'import signal; signal.pause()'], start_new_session=True).wait()"
    program = replace(script("deaf", deaf, ready=True), stop_seconds=0)
    with stopped_after(Platform(Config(home, Ports.free()), [program])) as platform:
        platform.start()
        guard = psutil.Process(pid_of(platform, "deaf"))
        eventually(lambda: len(guard.children(recursive=True)) == 2)
        escaped = guard.children(recursive=True)[1]
        os.kill(int(supervisor.pid_path(platform.config).read_text()), signal.SIGSTOP)  # it would start it again
        guard.kill()
        os.kill(int(supervisor.pid_path(platform.config).read_text()), signal.SIGKILL)
        eventually(lambda: relatives(platform.config.mark) == {escaped.pid})
        platform.stop()
        assert nobody_left(platform)


def test_start_goes_on_where_another_was_cut_off(platform: Platform) -> None:
    before = platform.status()
    with supervisor.rpc(platform.config) as rpc:
        rpc.stopProcess("valkey")
    assert not platform.status()[0].ready
    platform.start()
    assert platform.status()[0].ready
    assert platform.status()[0].pid != before[0].pid
    again = platform.status()[0].pid
    platform.start()
    assert platform.status()[0].pid == again


def test_a_program_that_ends_stops_the_start_with_its_last_words_and_nothing_is_left(home: Path) -> None:
    broken = script("broken", "print('boom: no such thing'); raise SystemExit(3)")
    platform = Platform(Config(home, Ports.free()), [VALKEY, broken])
    with pytest.raises(CannotStart, match=r"broken ended; the end of .*broken.log:\n +boom: no such thing"):
        platform.start()
    assert nobody_left(platform)


def test_a_program_that_ends_later_than_the_supervisor_looks_is_noticed_too(home: Path) -> None:
    """After its first second supervisord counts it as running, and starts it again without a word."""
    code = "import signal; signal.alarm(2); print('lived a while', flush=True); signal.pause()"
    platform = Platform(Config(home, Ports.free()), [script("short", code)])
    with pytest.raises(CannotStart, match=r"short ended; (.|\n)*lived a while"):
        platform.start()
    assert nobody_left(platform)


def test_a_program_that_cannot_be_started_leaves_a_platform_that_was_up_alone(platform: Platform) -> None:
    bigger = replace(platform, programs=[VALKEY, script("new", "")])
    with pytest.raises(CannotStart, match="new could not be started: BAD_NAME"):
        bigger.start()
    assert platform.status()[0].ready


def test_a_taken_port_is_said_with_its_holder_and_the_way_out(home: Path) -> None:
    config = Config(home, Ports.free())
    with socket.socket() as other:
        other.bind(("127.0.0.1", config.ports["redis"]))
        other.listen()
        platform = Platform(config, [VALKEY])
        holder = rf"process {os.getpid()} \(.+\)"
        with pytest.raises(CannotStart, match=rf"\(redis\) is taken by {holder}; .*HEARTH_REDIS_PORT=\d+ make up"):
            platform.start()
    assert nobody_left(platform)
    assert not config.log_of("supervisor").exists()


def test_a_missing_environment_is_said_before_anything_starts(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEARTH_ENVS", str(home / "nothing"))
    platform = Platform(Config(home, Ports.free()), [VALKEY, replace(VALKEY, name="engine", needs=("vllm",))])
    with pytest.raises(CannotStart, match=r"the environment vllm is missing .*make setup"):
        platform.start()
    assert nobody_left(platform)
