"""Times are written as the reference writes them."""

from datetime import UTC, datetime, timedelta, timezone

from hearth_contracts.base import Frozen, Timestamp


class Event(Frozen):
    at: Timestamp


def test_a_time_is_written_in_utc_with_microseconds_and_no_offset() -> None:
    east = timezone(timedelta(hours=3))
    event = Event(at=datetime(2024, 3, 21, 12, 58, 29, 846708, east))
    assert event.model_dump_json() == '{"at":"2024-03-21T09:58:29.846708"}'


def test_what_was_written_reads_back_as_the_same_moment() -> None:
    event = Event(at=datetime(2024, 3, 21, 9, 58, 29, tzinfo=UTC))
    assert Event.model_validate_json(event.model_dump_json()) == event
