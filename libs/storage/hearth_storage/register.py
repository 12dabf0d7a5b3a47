"""A bucket's records as a list that costs what changed since the last one, however many there are: see `log`.

Each process keeps what it has read. To list, it asks S3 for the names in the log behind its cursor, reads the records
of ids that it does not know, and forgets those that are gone. A record never changes, so it is read once; one that is
not there yet is asked for again by the next list, and is not listed meanwhile. A new process begins with a snapshot,
which each sweep writes.

Why nobody misses a change:

- A list of S3 has all that was put before it began. Whoever asks here gets a list that began after they asked.
- The cursor. A name holds its writer's clock, and S3 refuses writers (RequestTimeTooSkewed) whose clock is 15 minutes
  off its own; a writer that was held up between name and request writes another. So what S3 takes after its clock
  stood at T has a name of T less 15 minutes or later; five more are for a put that takes long and for servers of S3
  that differ. The cursor is T less 20 minutes, where T is what S3's clock showed at least when the last list began
  (`clocks`); what lies behind it is read again by each list.
- Order of made and gone does not matter, and an id is never used again. Gone ids are remembered for an hour of names,
  which is longer than any entry of theirs can still come.
- A writer that dies between two steps leaves an entry without a record, which is not listed, or a record that is said
  to be gone, which is not listed either; `sweep_log` mends both.
- A sweep removes pairs of made and gone a day after. Who has read nothing for 23 hours could have missed one, and
  begins anew; a snapshot older than 12 hours is not used. Both by the clock that ran most, so that a suspended
  machine counts.
- A snapshot is one object, so it is whole, and true for the moment of its cursor, whoever wrote it last and whatever
  was made, deleted or swept since. It carries what is not settled: ids whose record is not there yet, and the gone
  ones remembered.
"""

import io
import json
import logging
import threading
import time
from collections.abc import Callable, Mapping, Set
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Any, Generic, Protocol, TypeVar

from hearth_contracts.errors import Unavailable
from minio import Minio
from minio.error import S3Error

from hearth_storage import clocks
from hearth_storage.clocks import Moment, ServerClock
from hearth_storage.listing import seconds
from hearth_storage.log import name_at, read_log
from hearth_storage.objects import MISSING, ensure_bucket, object_size, write_object
from hearth_storage.writer import writing

log = logging.getLogger(__name__)

SNAPSHOT = "catalogue/snapshot.jsonl"
ADOPTED = "catalogue/adopted"
"""Says that all records from before there was a log are in it."""

WINDOW_SECONDS = 20 * 60.0
GONE_SECONDS = 3600.0
"""For how much of names behind the cursor gone ids are remembered."""

FRESH_SECONDS = 23 * 3600.0
SNAPSHOT_SECONDS = 12 * 3600.0
PENDING_SECONDS = 24 * 3600.0
"""An entry so old without a record has lost its writer; the sweep says so, and nobody asks any more."""

READERS = 16

PATIENCE_SECONDS = 5.0
"""So long a request waits while another of this process prepares."""

RETRY_SECONDS = 5


class Kept(Protocol):
    """What a process keeps of a record."""

    @property
    def line(self) -> bytes:
        """All of it as JSON, in one line: what a snapshot has."""


Record = TypeVar("Record", bound=Kept)


@dataclass(frozen=True)
class Kind(Generic[Record]):
    """What is registered."""

    bucket: str
    form: str  # of the lines; a snapshot of another form is not used
    read: Callable[[Minio, str], bytes | None]  # a record's line by its id in the log, or None when there is none
    keep: Callable[[bytes], Record]  # of a line
    adopt: Callable[[Minio], None]  # put what was recorded without a log into it; may be cut off, and run twice


class Register(Generic[Record]):
    """All records of a kind that exist. Safe to share between threads; one a process is enough."""

    def __init__(self, client: Minio, kind: Kind[Record]) -> None:
        self._client = client
        self._kind = kind
        self._preparing = threading.Lock()
        self._prepared = False
        self._adopting = False
        self._tries = 0  # to prepare that ended, and how the last one failed
        self._unprepared: Exception | None = None
        self._reading = threading.Lock()
        self._begun = 0  # lists of S3 that began, and of these the last that ended, and how
        self._ended = 0
        self._failure: Exception | None = None
        self._forget_all()

    def records(self) -> Mapping[str, Record]:
        """What exists, by the ids in the log. Never changed in place: another mapping whenever something changed.

        Raises S3Error, urllib3's HTTPError, Unavailable.
        """
        self.prepare()
        begun = self._begun
        with self._reading:
            if self._ended <= begun:  # none began since we asked
                self._begun += 1
                try:
                    self._failure = None
                    self._read()
                except Exception as failure:
                    self._failure = failure
                self._ended = self._begun
            if self._failure is not None:  # theirs is ours too: S3 is away, and not each shall wait for it in turn
                raise _again(self._failure) from self._failure
            return self._records

    def prepare(self, patience: float | None = None) -> None:
        """See that what was recorded before there was a log is in it; once, and at once when it is.

        Whoever comes while another does so waits `patience` seconds, without end when that is -1. Raises Unavailable
        then, S3Error, urllib3's HTTPError.
        """
        if self._prepared:
            return
        tries = self._tries
        if not self._preparing.acquire(timeout=PATIENCE_SECONDS if patience is None else patience):
            older = f"{self._kind.bucket} of an older version are being taken over"
            why = older if self._adopting else "S3 is slow to answer"
            raise Unavailable(f"{why}; try again", retry_after=RETRY_SECONDS)
        try:
            if self._prepared:
                return
            if self._tries != tries and self._unprepared is not None:  # theirs is ours too
                raise _again(self._unprepared) from self._unprepared
            self._unprepared = None
            try:
                self._prepare()
            except Exception as failure:
                self._unprepared = failure
                raise
            finally:
                self._adopting = False
                self._tries += 1
        finally:
            self._preparing.release()

    def _prepare(self) -> None:
        bucket = self._kind.bucket
        ensure_bucket(self._client, bucket)
        if object_size(self._client, bucket, ADOPTED) is None:
            self._adopting = True
            self._kind.adopt(self._client)
            write_object(self._client, bucket, ADOPTED)
        self._prepared = True

    # -- reading -------------------------------------------------------------------------------------------------------

    def _forget_all(self) -> None:
        self._records: dict[str, Record] = {}
        self._fetched: dict[str, Record] = {}  # by a list that failed then
        self._pending: dict[str, str] = {}  # made, and not recorded yet: when, as S3 says
        self._gone: dict[str, str] = {}  # with the names that said so
        self._recent: set[str] = set()  # of whom the last list saw an entry
        self._clock = ServerClock()
        self._read_at = 0.0  # what S3's clock showed at least when the last list began
        self._read_since: Moment | None = None  # when that was

    def _read(self) -> None:
        if self._read_since is None or clocks.passed(self._read_since) > FRESH_SECONDS:
            self._forget_all()
            self._read_since = clocks.moment()
            try:
                self._load()
            except BaseException:
                self._read_since = None  # so that the next list tries it again
                raise
        since, began = clocks.moment(), time.monotonic()
        made: dict[str, str] = {}
        recent: set[str] = set()
        gone = dict(self._gone)
        latest = ""
        for fact in read_log(self._client, self._kind.bucket, _names_from(self._read_at)):
            if fact.is_gone:
                gone[fact.id] = fact.key
            elif fact.id not in self._records:
                made[fact.id] = fact.modified
            recent.add(fact.id)
            latest = max(latest, fact.modified)
        if clocks.passed(self._read_since) > FRESH_SECONDS:  # frozen in the middle of it
            self._read_since = None
            self._read()
            return
        if latest:
            self._clock.saw(seconds(latest))
        pending = {each: at for each, at in (self._pending | made).items() if each not in gone}
        self._fetch([each for each in pending if each not in self._fetched])
        if self._fetched or not gone.keys().isdisjoint(self._records):
            both = self._records | self._fetched
            self._records = {each: kept for each, kept in both.items() if each not in gone}
        self._read_at, self._read_since = self._clock.at(began), since
        lost = self._read_at - PENDING_SECONDS
        self._pending = {each: at for each, at in pending.items() if each not in self._fetched and seconds(at) > lost}
        self._fetched, self._recent = {}, recent
        forgotten = _names_from(self._read_at - GONE_SECONDS)
        self._gone = {each: key for each, key in gone.items() if key > forgotten}

    def _fetch(self, ids: list[str]) -> None:
        """Read the records that are there."""

        def read(each: str) -> None:
            if (line := self._kind.read(self._client, each)) is not None:
                self._fetched[each] = self._kind.keep(line)

        if len(ids) == 1:
            read(ids[0])
        elif ids:
            with ThreadPoolExecutor(READERS) as pool:
                for _ in pool.map(read, ids):  # raises what one of them raised
                    pass

    # -- the snapshot --------------------------------------------------------------------------------------------------

    def save(self, existing: Set[str] | None = None) -> None:
        """Write a snapshot of what exists now, for processes to begin with. Raises S3Error, urllib3's HTTPError.

        `existing` is what a sweep, minutes ago at most, found to exist: see `_compare`.
        """
        self.records()
        with self._reading:
            if existing is not None:
                self._compare(existing)
            if self._read_since is None:
                return
            head = {
                "form": self._kind.form,
                "taken": self._read_since[0],
                "clock": self._read_at,
                "pending": self._pending,
                "gone": self._gone,
                "records": len(self._records),
            }
            records = self._records
        bucket = self._kind.bucket
        with writing(self._client, bucket, SNAPSHOT, "application/jsonl") as writer:
            writer.write(json.dumps(head).encode() + b"\n")
            for each, kept in records.items():
                writer.write(b'["%s",%s]\n' % (each.encode(), kept.line))
        saved = self._client.stat_object(bucket_name=bucket, object_name=SNAPSHOT)
        if saved.last_modified is not None:  # so that the cursor goes on where nothing is made or deleted
            self._clock.saw(saved.last_modified.timestamp())

    def _compare(self, existing: Set[str]) -> None:
        """Read all anew if what is known is not what exists, as when S3's volume was put back to an earlier state
        beneath us: it came from a snapshot, perhaps, and would go into the next one, for ever.

        What changed while the sweep was at it lies in the window, or is gone.
        """
        wrong = (self._records.keys() ^ existing) - self._recent - self._gone.keys()
        if not wrong:
            return
        log.error("%d of %s are known wrongly, %s is one: all is read anew", len(wrong), self._kind.bucket, min(wrong))
        self._forget_all()
        self._read_since = clocks.moment()  # so that it does not begin with the snapshot
        try:
            self._read()
        except Exception as failure:
            self._failure = failure  # nobody shall take what is half read for a list
            raise

    def _load(self) -> None:
        """Begin with the snapshot, if there is one that is of use."""
        try:
            reply: Any = self._client.get_object(bucket_name=self._kind.bucket, object_name=SNAPSHOT)
        except S3Error as error:
            if error.code in MISSING:
                return
            raise
        reply.auto_close = False  # or it closes at its end, which the reader around it takes for a fault
        try:
            self._take(io.BufferedReader(reply, 2**20))
            self._clock.saw(parsedate_to_datetime(reply.headers["last-modified"]).timestamp())
        except (ValueError, KeyError, TypeError) as fault:
            log.warning("the snapshot in %s is of no use, all is read anew: %s", self._kind.bucket, fault)
            self._forget_all()
            self._read_since = clocks.moment()
        finally:
            reply.close()
            reply.release_conn()

    def _take(self, lines: io.BufferedReader) -> None:
        head = json.loads(lines.readline())
        age = time.time() - head["taken"]
        if head["form"] != self._kind.form:
            raise ValueError("another Hearth wrote it")
        if age > SNAPSHOT_SECONDS:
            raise ValueError(f"it is {age / 3600:.0f} hours old")
        records = {}
        for line in lines:
            end = line.index(b'",')
            records[line[2:end].decode()] = self._kind.keep(line[end + 2 : -2])
        if len(records) != head["records"]:
            raise ValueError("it is not whole")
        wall, up = clocks.moment()
        self._records, self._pending, self._gone = records, head["pending"], head["gone"]
        self._read_at, self._read_since = head["clock"], (wall - age, up - age)
        self._clock.saw(head["clock"])


def _again(failure: Exception) -> Exception:
    """An exception like it; one that several threads raised would gather all their tracebacks."""
    kind = type(failure)
    fresh = kind.__new__(kind, *failure.args)  # not kind(): what that takes is not what they keep
    fresh.args = failure.args
    fresh.__dict__.update(failure.__dict__)
    return fresh


def _names_from(clock: float) -> str:
    """Behind which names all lies that S3 may take once its clock has stood at `clock`."""
    return name_at(max(clock - WINDOW_SECONDS, 0.0))
