"""What exists as a log in S3: what one process changes the next list of every other shows, on a real S3 server."""

import json
import random
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from io import BytesIO
from typing import Any

import minio.time
import pytest
from hearth_contracts.errors import Unavailable
from hearth_storage import clocks, listing
from hearth_storage import log as log_module
from hearth_storage import register as module
from hearth_storage.listing import Listed, list_keys
from hearth_storage.log import LOG, name_at, read_log, say_gone, say_made, sweep_log
from hearth_storage.objects import DATASETS, read_object, write_object
from hearth_storage.register import ADOPTED, SNAPSHOT, WINDOW_SECONDS, Kind, Register
from minio import Minio
from minio.error import S3Error
from urllib3.exceptions import HTTPError

NOW = -timedelta(hours=1)
"""An age that makes everything old."""

STEPS = 400


@dataclass(frozen=True)
class Line:
    line: bytes


def read(s3: Minio, record_id: str) -> bytes | None:
    return read_object(s3, DATASETS, f"records/{record_id}")


KIND = Kind(DATASETS, "1", read, Line, lambda _s3: None)


def register(s3: Minio) -> Register[Line]:
    return Register(s3, KIND)


def record(s3: Minio, record_id: str) -> None:
    write_object(s3, DATASETS, f"records/{record_id}", json.dumps(record_id).encode())


def add(s3: Minio, record_id: str) -> None:
    say_made(s3, DATASETS, record_id)
    record(s3, record_id)


def remove(s3: Minio, record_id: str) -> None:
    say_gone(s3, DATASETS, record_id)
    s3.remove_object(bucket_name=DATASETS, object_name=f"records/{record_id}")


def recorded(s3: Minio) -> set[str]:
    return {key.removeprefix("records/") for key, _ in list_keys(s3, DATASETS, "records/")}


def logged(s3: Minio) -> list[tuple[str, bool]]:
    return sorted((fact.id, fact.is_gone) for fact in read_log(s3, DATASETS))


def sweep(s3: Minio, age: timedelta = NOW) -> set[str]:
    mended = sweep_log(s3, DATASETS, recorded(s3), lambda each: read(s3, each) is not None, age)
    for each in mended.unlogged:
        say_made(s3, DATASETS, each)
    for each in mended.undeleted:
        s3.remove_object(bucket_name=DATASETS, object_name=f"records/{each}")
    return mended.existing


def calls(s3: Minio, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The objects and lists that a client asks for, from now on."""
    asked: list[str] = []
    execute = s3._execute

    def counted(method: str, *args: Any, **named: Any) -> Any:
        if method == "GET":
            query = named.get("query_params") or {}
            asked.append(query.get("start-after") or named.get("object_name") or (*args, "")[1])
        return execute(method, *args, **named)

    monkeypatch.setattr(s3, "_execute", counted)
    return asked


def test_two_processes_see_what_the_other_does_with_its_next_list(s3: Minio) -> None:
    one, other = register(s3), register(s3)
    assert one.records() == other.records() == {}
    add(s3, "a")
    add(s3, "b")
    assert {*one.records()} == {*other.records()} == {"a", "b"}
    assert one.records()["a"] == Line(b'"a"')
    remove(s3, "a")
    assert {*one.records()} == {*other.records()} == {*register(s3).records()} == {"b"}


def test_a_list_reads_a_record_once_and_gives_the_same_mapping_while_nothing_changes(
    s3: Minio, monkeypatch: pytest.MonkeyPatch
) -> None:
    reader = register(s3)
    add(s3, "a")
    before = reader.records()
    asked = calls(s3, monkeypatch)
    assert reader.records() is before
    assert len(asked) == 1
    add(s3, "b")
    assert {*reader.records()} == {"a", "b"}
    assert {*before} == {"a"}


def test_an_entry_whose_record_is_not_there_yet_is_listed_once_it_is(s3: Minio) -> None:
    reader = register(s3)
    say_made(s3, DATASETS, "a")
    assert reader.records() == {}
    record(s3, "a")
    assert {*reader.records()} == {"a"}


def test_what_is_gone_is_not_listed_though_its_record_is_there_still(s3: Minio) -> None:
    reader = register(s3)
    add(s3, "a")
    assert {*reader.records()} == {"a"}
    say_gone(s3, DATASETS, "a")
    assert reader.records() == {} == register(s3).records()


def test_the_order_in_which_made_and_gone_come_does_not_matter(s3: Minio) -> None:
    reader = register(s3)
    say_gone(s3, DATASETS, "a")
    assert reader.records() == {}
    add(s3, "a")
    assert reader.records() == {} == register(s3).records()


@pytest.mark.parametrize("minutes", [-14.9, 14.9])
def test_a_writer_whose_clock_is_as_wrong_as_s3_allows_is_heard(s3: Minio, minutes: float) -> None:
    reader = register(s3)
    add(s3, "a")
    reader.records()
    reader.records()
    write_object(s3, DATASETS, f"{name_at(time.time() + minutes * 60)}.late")
    record(s3, "late")
    assert {*reader.records()} == {"a", "late"}
    write_object(s3, DATASETS, f"{name_at(time.time() + minutes * 60)}.a.gone")
    assert {*reader.records()} == {"late"}


@pytest.mark.parametrize("minutes", [-16, 16])
def test_s3_refuses_a_writer_whose_clock_is_more_than_fifteen_minutes_wrong(
    s3: Minio, minutes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    utcnow = minio.time.utcnow
    monkeypatch.setattr(minio.time, "utcnow", lambda: utcnow() + timedelta(minutes=minutes))
    with pytest.raises(S3Error) as refusal:
        say_made(s3, DATASETS, "a")
    assert refusal.value.code == "RequestTimeTooSkewed"


def test_a_writer_that_was_frozen_between_an_entrys_name_and_its_request_is_heard(
    s3: Minio, monkeypatch: pytest.MonkeyPatch
) -> None:
    reader = register(s3)
    add(s3, "a")
    reader.records()
    reader.records()
    real, now, frozen = write_object, clocks.moment(), 3600.0

    def thawed(client: Minio, bucket: str, key: str) -> None:
        nonlocal frozen
        real(client, bucket, key)
        frozen = 0.0

    monkeypatch.setattr(clocks, "moment", lambda: (now[0] - frozen, now[1] - frozen))
    monkeypatch.setattr(log_module, "write_object", thawed)
    say_gone(s3, DATASETS, "a")
    monkeypatch.undo()
    assert reader.records() == {}


def test_what_lies_before_the_window_is_read_once(s3: Minio, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(5):
        write_object(s3, DATASETS, f"{name_at(time.time() - 2 * WINDOW_SECONDS)}.{number}")
        record(s3, str(number))
    reader = register(s3)
    assert len(reader.records()) == 5
    asked = calls(s3, monkeypatch)
    reader.records()
    (cursor,) = asked
    at = name_at(time.time() - WINDOW_SECONDS - 60)
    assert at < cursor < name_at(time.time() - WINDOW_SECONDS + 1)
    assert list(read_log(s3, DATASETS, cursor)) == []


def test_many_names_come_page_by_page_whole(s3: Minio) -> None:
    with ThreadPoolExecutor(16) as pool:
        list(pool.map(lambda number: add(s3, f"{number:04d}"), range(1100)))
    assert len(register(s3).records()) == 1100


def test_a_new_process_begins_with_the_snapshot_and_reads_only_what_came_since(
    s3: Minio, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = register(s3)
    for each in "abcd":
        add(s3, each)
    remove(s3, "d")
    say_made(s3, DATASETS, "pending")
    writer.save()
    add(s3, "e")
    remove(s3, "a")
    record(s3, "pending")
    asked = calls(s3, monkeypatch)
    assert {*register(s3).records()} == {"b", "c", "e", "pending"}
    assert {each for each in asked if each.startswith("records/")} == {"records/e", "records/pending"}


def test_a_snapshot_knows_what_is_not_settled_though_it_lies_before_its_cursor(
    s3: Minio, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_object(s3, DATASETS, f"{name_at(time.time() - 2 * WINDOW_SECONDS)}.slow")
    add(s3, "undeleted")
    say_gone(s3, DATASETS, "undeleted")
    writer = register(s3)
    writer.save()
    writer.save()
    record(s3, "slow")
    for key, _ in list_keys(s3, DATASETS, LOG):
        if key.endswith(".gone"):
            s3.remove_object(bucket_name=DATASETS, object_name=key)
    assert {*register(s3).records()} == {"slow"}


def test_who_could_not_read_the_snapshot_at_first_begins_with_it_later(
    s3: Minio, monkeypatch: pytest.MonkeyPatch
) -> None:
    for each in "abc":
        add(s3, each)
    register(s3).save()
    reader, get = register(s3), s3.get_object

    def failing(*args: Any, **named: Any) -> Any:
        monkeypatch.setattr(s3, "get_object", get)
        raise HTTPError("away")

    monkeypatch.setattr(s3, "get_object", failing)
    with pytest.raises(HTTPError, match="away"):
        reader.records()
    asked = calls(s3, monkeypatch)
    assert {*reader.records()} == {"a", "b", "c"}
    assert SNAPSHOT in asked
    assert not [each for each in asked if each.startswith("records/")]


@pytest.mark.parametrize("fault", ["old", "form", "torn", "rubbish", "empty"])
def test_a_snapshot_that_is_old_or_odd_is_not_used(s3: Minio, fault: str) -> None:
    add(s3, "a")
    register(s3).save()
    body = read_object(s3, DATASETS, SNAPSHOT)
    assert body is not None
    head, _, rest = body.partition(b"\n")
    told = json.loads(head)
    changed = {
        "old": json.dumps({**told, "taken": told["taken"] - 12.1 * 3600}).encode() + b"\n" + rest,
        "form": json.dumps({**told, "form": "2"}).encode() + b"\n" + rest,
        "torn": head + b"\n",
        "rubbish": b"\0" + body,
        "empty": b"",
    }[fault].replace(b'"a"]', b'"of the snapshot"]')
    write_object(s3, DATASETS, SNAPSHOT, changed)
    assert register(s3).records() == {"a": Line(b'"a"')}
    write_object(s3, DATASETS, SNAPSHOT, body.replace(b'"a"]', b'"of the snapshot"]'))
    assert register(s3).records() == {"a": Line(b'"of the snapshot"')}  # else this test would show nothing


def add_long_ago(s3: Minio, record_id: str) -> None:
    write_object(s3, DATASETS, f"{name_at(time.time() - 2 * WINDOW_SECONDS)}.{record_id}")
    record(s3, record_id)


def test_a_process_and_the_snapshot_follow_s3_when_it_is_put_back_to_an_earlier_state(
    s3: Minio, caplog: pytest.LogCaptureFixture
) -> None:
    reader = register(s3)
    for each in ("a", "later"):
        add_long_ago(s3, each)
    for _ in range(2):
        reader.records()
    reader.save(sweep(s3))
    assert caplog.text == ""
    for key, _ in list_keys(s3, DATASETS):
        if "later" in key:
            s3.remove_object(bucket_name=DATASETS, object_name=key)
    add_long_ago(s3, "earlier")
    assert {*reader.records()} == {*register(s3).records()} == {"a", "later"}  # they cannot know
    reader.save(sweep(s3))
    assert "2 of datasets are known wrongly" in caplog.text
    assert {*reader.records()} == {*register(s3).records()} == {"a", "earlier"}


def test_a_check_that_finds_nothing_wrong_reads_nothing_again(s3: Minio, monkeypatch: pytest.MonkeyPatch) -> None:
    reader = register(s3)
    for each in "abcd":
        add_long_ago(s3, each)
    for _ in range(2):
        reader.records()
    add(s3, "young")
    say_gone(s3, DATASETS, "a")  # and not deleted yet
    remove(s3, "b")
    existing = sweep(s3, timedelta(days=1))
    remove(s3, "c")
    add(s3, "younger")
    before = reader.records()
    asked = calls(s3, monkeypatch)
    reader.save(existing)
    assert not [each for each in asked if each.startswith("records/")]
    assert {*reader.records()} == {*before} == {"d", "young", "younger"}


def test_a_check_that_fails_midway_leaves_no_list_of_less(s3: Minio, monkeypatch: pytest.MonkeyPatch) -> None:
    reader = register(s3)
    add_long_ago(s3, "a")
    for _ in range(2):
        reader.records()
    began, go, real = threading.Event(), threading.Event(), read_log

    def failing(*args: Any) -> Any:
        if not args[2].startswith(name_at(0)):
            return real(*args)
        began.set()
        go.wait(10)
        raise OSError("away")

    monkeypatch.setattr(module, "read_log", failing)
    with ThreadPoolExecutor(2) as pool:
        saved = pool.submit(reader.save, {"a", "b"})
        began.wait(10)
        monkeypatch.setattr(reader, "_begun", reader._begun - 1)
        listed = pool.submit(reader.records)
        time.sleep(0.2)
        reader._begun += 1  # as if it had asked while the list before the check was under way
        go.set()
        assert all(isinstance(each.exception(), OSError) for each in (saved, listed))
    monkeypatch.undo()
    assert {*reader.records()} == {"a"}


def test_who_has_read_nothing_for_a_day_begins_anew(s3: Minio, monkeypatch: pytest.MonkeyPatch) -> None:
    reader = register(s3)
    add(s3, "a")
    add(s3, "b")
    reader.records()
    remove(s3, "a")
    sweep(s3)
    assert logged(s3) == [("b", False)]
    assert {*reader.records()} == {"a", "b"}  # it cannot know; no sweep takes pairs that are less than a day old
    now = clocks.moment()
    monkeypatch.setattr(clocks, "moment", lambda: (now[0], now[1] + 23.1 * 3600))
    assert {*reader.records()} == {"b"}


def test_who_is_frozen_for_a_day_in_the_midst_of_a_list_begins_anew(s3: Minio, monkeypatch: pytest.MonkeyPatch) -> None:
    reader = register(s3)
    add(s3, "a")
    add(s3, "b")
    reader.records()
    real, now, frozen = read_log, clocks.moment(), False

    def freezing(*args: Any) -> Any:
        nonlocal frozen
        if not frozen:
            frozen = True
            monkeypatch.setattr(clocks, "moment", lambda: (now[0] + 24.1 * 3600, now[1]))
            remove(s3, "a")
            sweep(s3)
        return real(*args)

    monkeypatch.setattr(module, "read_log", freezing)
    assert {*reader.records()} == {"b"}


def test_who_asks_gets_a_list_that_began_after_they_asked(s3: Minio, monkeypatch: pytest.MonkeyPatch) -> None:
    """Many threads, few lists, and each thread sees what it has made itself."""
    reader = register(s3)
    reader.records()
    asked = calls(s3, monkeypatch)
    missed = []

    def work(number: int) -> None:
        for step in range(10):
            mine = f"{number}-{step}"
            add(s3, mine)
            if mine not in reader.records():
                missed.append(mine)
            remove(s3, mine)
            if mine in reader.records():
                missed.append(f"{mine} stays")

    with ThreadPoolExecutor(12) as pool:
        list(pool.map(work, range(12)))
    assert missed == []
    assert len([each for each in asked if each.startswith(LOG)]) < 12 * 20


def test_those_who_wait_for_a_list_that_fails_fail_with_it(s3: Minio, monkeypatch: pytest.MonkeyPatch) -> None:
    reader = register(s3)
    reader.records()
    began, go, times = threading.Event(), threading.Event(), []

    def failing(*_args: Any) -> Any:
        times.append(1)
        began.set()
        go.wait(10)
        raise OSError("away")

    monkeypatch.setattr(module, "read_log", failing)
    with ThreadPoolExecutor(9) as pool:
        first = pool.submit(reader.records)
        began.wait(10)
        others = [pool.submit(reader.records) for _ in range(8)]
        time.sleep(0.2)
        go.set()
        assert all(isinstance(each.exception(), OSError) for each in (first, *others))
    assert len(times) == 2
    assert len({id(each.exception()) for each in (first, *others)}) == 9  # one of all would gather all their tracebacks
    monkeypatch.undo()
    add(s3, "a")
    assert {*reader.records()} == {"a"}


def test_records_that_were_read_before_s3_went_away_are_not_read_again(s3: Minio) -> None:
    for each in "abc":
        add(s3, each)
    read_ids: list[str] = []
    away = True

    def flaky(client: Minio, record_id: str) -> bytes | None:
        if record_id == "c" and away:
            raise OSError("away")
        read_ids.append(record_id)
        return read(client, record_id)

    reader = Register(s3, Kind(DATASETS, "1", flaky, Line, lambda _s3: None))
    with pytest.raises(OSError, match="away"):
        reader.records()
    away = False
    assert {*reader.records()} == {"a", "b", "c"}
    assert sorted(read_ids) == ["a", "b", "c"]


def test_what_was_recorded_before_there_was_a_log_is_adopted_once_before_the_first_list(s3: Minio) -> None:
    record(s3, "old")
    times = []

    def adopt(client: Minio) -> None:
        times.append(1)
        if len(times) == 1:
            raise OSError("cut off")
        for each in recorded(client):
            say_made(client, DATASETS, each)

    kind = Kind(DATASETS, "1", read, Line, adopt)
    with pytest.raises(OSError, match="cut off"):
        Register(s3, kind).records()
    assert read_object(s3, DATASETS, ADOPTED) is None
    assert {*Register(s3, kind).records()} == {"old"}
    assert {*Register(s3, kind).records()} == {"old"}
    assert len(times) == 2


def test_those_who_wait_for_an_adoption_that_fails_fail_with_it_each_with_an_exception_of_its_own(s3: Minio) -> None:
    began, go, times = threading.Event(), threading.Event(), []
    fault = S3Error(None, "SlowDown", "", "", "", "")  # type: ignore[arg-type]

    def adopt(_client: Minio) -> None:
        times.append(1)
        if len(times) == 1:
            began.set()
            go.wait(10)
            raise fault

    reader = Register(s3, Kind(DATASETS, "1", read, Line, adopt))
    with ThreadPoolExecutor(9) as pool:
        first = pool.submit(reader.records)
        began.wait(10)
        others = [pool.submit(reader.records) for _ in range(8)]
        time.sleep(0.2)
        go.set()
        raised = [each.exception() for each in (first, *others)]
    assert len(times) == 1
    assert len({id(each) for each in raised}) == 9
    assert {(type(each), str(each)) for each in raised} == {(S3Error, str(fault))}
    assert {getattr(each, "code", "") for each in raised} == {"SlowDown"}
    assert all(each is fault or each.__cause__ is fault for each in raised if each is not None)
    assert reader.records() == {}


def test_who_would_wait_long_for_an_adoption_is_told_so(s3: Minio, monkeypatch: pytest.MonkeyPatch) -> None:
    began, go = threading.Event(), threading.Event()

    def adopt(_client: Minio) -> None:
        began.set()
        go.wait(10)

    monkeypatch.setattr(module, "PATIENCE_SECONDS", 0.1)
    reader = Register(s3, Kind(DATASETS, "1", read, Line, adopt))
    with ThreadPoolExecutor(9) as pool:
        first = pool.submit(reader.records)
        began.wait(10)
        with pytest.raises(Unavailable, match=r"datasets of an older version are being taken over; try again"):
            reader.records()
        patient = pool.submit(reader.prepare, -1)
        go.set()
        assert first.result() == reader.records() == {}
        patient.result()


def test_the_sweep_mends_each_step_at_which_a_writer_can_die_and_shortens_the_log(s3: Minio) -> None:
    reader = register(s3)
    add(s3, "whole")
    say_made(s3, DATASETS, "never recorded")
    add(s3, "half deleted")
    say_gone(s3, DATASETS, "half deleted")
    add(s3, "deleted")
    remove(s3, "deleted")
    record(s3, "not logged")
    assert {*reader.records()} == {"whole"}
    before = logged(s3)
    sweep(s3, timedelta(hours=1))
    assert logged(s3) == sorted([*before, ("not logged", False)])
    assert recorded(s3) == {"whole", "half deleted", "not logged"}
    sweep(s3)
    assert recorded(s3) == {"whole", "not logged"}
    sweep(s3)
    assert logged(s3) == [("not logged", False), ("whole", False)]
    assert {*reader.records()} == {*register(s3).records()} == {"whole", "not logged"}


def test_a_listed_folder_is_no_entry(s3: Minio) -> None:
    s3.put_object(bucket_name=DATASETS, object_name=f"{LOG}folder/", data=BytesIO(b""), length=0)
    add(s3, "a")
    assert {*register(s3).records()} == {"a"}
    s3.remove_object(bucket_name=DATASETS, object_name=f"{LOG}folder/")


def test_a_list_gives_names_as_they_are_whatever_is_in_them_page_by_page(
    s3: Minio, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = ["x/a b+c", "x/n\nl", "x/p%41q%", "x/x\x01y", "x/x\x1fz", "x/\u00fc~(')*!:=&@$,;<>"]
    for name in names:
        write_object(s3, DATASETS, name)
    assert [key for key, _ in list_keys(s3, DATASETS, "x/")] == names
    monkeypatch.setattr(listing, "PAGE", "1")
    assert [key for key, _ in list_keys(s3, DATASETS, "x/")] == names
    assert [key for key, _ in list_keys(s3, DATASETS, after="x/p%41q%")] == names[3:]


class MovedClock:
    """The clock of S3, of its writers and of its readers, which a test moves on: in place of the module `time`."""

    CLOCK_BOOTTIME = time.CLOCK_BOOTTIME

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.ahead = 0.0
        self._put_at: dict[str, str] = {}
        for user in (clocks, log_module, module):
            monkeypatch.setattr(user, "time", self)
        monkeypatch.setattr(log_module, "write_object", self.put)
        monkeypatch.setattr(log_module, "list_keys", self._listed)

    def time(self) -> float:
        return time.time() + self.ahead

    def monotonic(self) -> float:
        return time.monotonic() + self.ahead

    def clock_gettime(self, which: int) -> float:
        return time.clock_gettime(which) + self.ahead

    def put(self, s3: Minio, bucket: str, key: str) -> None:
        self._put_at[key] = f"{datetime.fromtimestamp(self.time(), UTC):%Y-%m-%dT%H:%M:%S.%fZ}"
        write_object(s3, bucket, key)

    def _listed(self, *which: Any) -> Iterator[Listed]:
        for key, modified in list_keys(*which):
            yield Listed(key, self._put_at.get(key, modified))


@pytest.mark.parametrize("seed", range(6))
def test_any_order_of_steps_by_any_process_gives_what_a_plain_set_has(
    s3: Minio, seed: int, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Readers that come and go, writers with wrong clocks that die or are slow between steps, sweeps, snapshots, and
    hours that pass, so that names fall out of the window and pairs out of the log: against a set.
    """
    rng = random.Random(seed)
    clock = MovedClock(monkeypatch)
    readers = [register(s3) for _ in range(3)]
    exists: set[str] = set()
    half: dict[str, float] = {}  # without a record: since when
    made = 0

    def entry(each: str, end: str = "") -> None:
        skew = rng.choice([-14.0, 14.0, rng.uniform(-14, 14)]) * 60
        clock.put(s3, DATASETS, f"{name_at(clock.time() + skew)}.{each}{end}")

    often = ["add"] * 3 + ["die", "finish", "delete", "delete", "undelete", "undelete", "start", "save", "mend"]
    for _ in range(STEPS):
        step = rng.choice([*often, *["list"] * 5, *["pass"] * 4])
        chosen = rng.choice(sorted(exists)) if exists else None
        if step in {"add", "die"}:
            made += 1
            entry(f"id{made}")
            if step == "add":
                record(s3, f"id{made}")
                exists.add(f"id{made}")
            else:
                half[f"id{made}"] = clock.time()
        elif step == "finish":
            for each in [each for each, since in half.items() if clock.time() - since < 20 * 3600][:1]:
                record(s3, each)
                exists.add(each)
                del half[each]
        elif step in {"delete", "undelete"} and chosen:
            entry(chosen, ".gone")
            exists.discard(chosen)
            if step == "delete":
                s3.remove_object(bucket_name=DATASETS, object_name=f"records/{chosen}")
        elif step == "start":
            readers[rng.randrange(3)] = register(s3)
        elif step == "save":
            rng.choice(readers).save()
        elif step == "mend":
            rng.choice(readers).save(sweep(s3, timedelta(days=1)))
        elif step == "pass":
            clock.ahead += rng.choice([1, 3, 3, 5, 5, 9, 9, 25, 25, 90, 800]) * 60
        elif step == "list":
            assert {*rng.choice(readers).records()} == exists
    for reader in (*readers, register(s3)):
        assert {*reader.records()} == exists
    s3.remove_object(bucket_name=DATASETS, object_name=SNAPSHOT)  # no sweep takes what is younger than one
    for _ in range(3):
        sweep(s3)
    assert {*register(s3).records()} == exists == recorded(s3)
    assert logged(s3) == sorted((each, False) for each in exists)
    assert "known wrongly" not in caplog.text
