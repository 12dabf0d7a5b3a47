"""What exists in a bucket, as a log in S3: an empty object for "made", another for "gone".

`catalogue/log/<time>.<id>` says that the record `id` was made, `catalogue/log/<time>.<id>.gone` that it is gone. The
time is its writer's clock in UTC, of fixed width, so that names sort by it. An id is never used again: what exists is
what was made less what is gone, in whatever order the two are read (a two-phase set). Nobody locks anything.

The order of steps. Add: the log, then the record; until that is there the id is not listed. Delete: the log, then the
record, so that a list never shows what a read denies, and a deletion that died can be asked for again. `sweep_log`
mends what died between the two.
"""

import logging
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Set
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from minio import Minio

from hearth_storage import clocks
from hearth_storage.listing import list_keys, seconds
from hearth_storage.objects import remove_objects, write_object

log = logging.getLogger(__name__)

LOG = "catalogue/log/"
GONE = ".gone"
PROMPT_SECONDS = 240.0
"""So soon an entry is there once it was named; else it is written again. A process may have been frozen in between."""


class Fact(NamedTuple):
    """An entry of the log."""

    key: str
    id: str
    is_gone: bool
    modified: str  # as `listing.Listed` has it


def name_at(at: float) -> str:
    """What the names written at `at` (seconds since 1970) begin with; earlier ones sort before it, later ones
    behind."""
    return f"{LOG}{datetime.fromtimestamp(at, UTC):%Y%m%dT%H%M%S%fZ}"


def say_made(client: Minio, bucket: str, record_id: str) -> None:
    """Its record is about to be written, or was written by a Hearth that had no log."""
    _say(client, bucket, record_id)


def say_gone(client: Minio, bucket: str, record_id: str) -> None:
    """Its record is about to be removed."""
    _say(client, bucket, record_id + GONE)


def _say(client: Minio, bucket: str, what: str) -> None:
    began = None
    while began is None or clocks.passed(began) > PROMPT_SECONDS:  # readers may be past a name that came so late
        began = clocks.moment()
        write_object(client, bucket, f"{name_at(began[0])}.{what}")


def read_log(client: Minio, bucket: str, after: str = "") -> Iterator[Fact]:
    """The entries whose names sort behind `after`."""
    for key, modified in list_keys(client, bucket, LOG, after):
        _, dot, record_id = key.partition(".")
        if dot:
            is_gone = record_id.endswith(GONE)
            yield Fact(key, record_id.removesuffix(GONE) if is_gone else record_id, is_gone, modified)


@dataclass(frozen=True)
class Mended:
    """What a sweep leaves to whoever knows the records."""

    unlogged: set[str]  # records of which the log knows nothing
    undeleted: set[str]  # records that are gone, and whose deletion died
    unlisted: set[str]  # records that are there, though the listing had none of them
    existing: set[str]  # ids in the log whose records are there


def sweep_log(
    client: Minio,
    bucket: str,
    recorded: Set[str],
    exists: Callable[[str], bool],
    age: timedelta,
    record_of: Callable[[str], str] = lambda id_: id_,
) -> Mended:
    """Mend and shorten the log; only what is older than `age` is touched, by S3's clock against ours.

    `recorded` are the ids of all records, listed *before* this call: a record's entry is older than the record, so
    one that is not in the log now never was. `record_of` gives the record that an id in the log is for.

    An entry without a record is said to be gone, never just removed: readers that know it must hear of it. That cannot
    be taken back, and a listing may have left a name out: so `exists` asks S3 for each such record by itself. A pair of
    made and gone is removed when its record is not there, made first, so that nobody finds it made and not gone.
    """
    made: dict[str, list[Fact]] = defaultdict(list)
    gone: dict[str, list[Fact]] = defaultdict(list)
    for fact in read_log(client, bucket):
        (gone if fact.is_gone else made)[fact.id].append(fact)
    oldest = time.time() - age.total_seconds()

    def is_old(facts: list[Fact]) -> bool:
        return all(seconds(fact.modified) < oldest for fact in facts)

    living = {record_of(each) for each in made.keys() - gone.keys()}
    unlisted = set()
    for each in made.keys() - gone.keys():
        if record_of(each) in recorded or not is_old(made[each]):
            continue
        if exists(record_of(each)):
            log.error("S3's listing of %s leaves the record of %s out, which is there", bucket, each)
            unlisted.add(record_of(each))
        else:
            log.warning("%s in %s was never recorded, or its record is lost: it is gone", each, bucket)
            say_gone(client, bucket, each)
    dead = {each for each, facts in gone.items() if is_old(facts + made[each])}
    undeleted = {record_of(each) for each in dead} & (recorded - living)
    over = [each for each in dead if record_of(each) not in undeleted]
    for facts in (made, gone):
        remove_objects(client, bucket, [fact.key for each in over for fact in facts[each]])
    known = living | {record_of(each) for each in gone}
    existing = {each for each in made.keys() - gone.keys() if record_of(each) in recorded | unlisted}
    return Mended(unlogged=set(recorded - known), undeleted=undeleted, unlisted=unlisted, existing=existing)
