"""The door: who may ask, how much, and what it cost."""

from collections.abc import Iterable
from datetime import timedelta

import pytest
from hearth_access.key_store import StoredKey
from hearth_access.secret import digest, new_key_id, new_secret
from hearth_contracts.access import ApiKey, Limits, Role
from hearth_contracts.base import now
from hearth_gateway import limits
from hearth_gateway.door import OPEN, Door, Visitor
from hearth_gateway.limits import span
from hearth_gateway.replies import Refused

HOUR = timedelta(hours=1)


class Clock:
    """A clock the test moves: a minute is not waited for."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(limits.time, "monotonic", clock.monotonic)
    return clock


def key(**fields: object) -> tuple[StoredKey, bytes]:
    """A key and the header that opens with it."""
    key_id = new_key_id()
    secret = new_secret(key_id)
    record = ApiKey.model_validate({"name": "test", "id": key_id, "created_at": now(), **fields})
    return StoredKey(record, digest(secret.encode())), f"Bearer {secret}".encode()


def door(*keys: StoredKey, may_be_open: bool = False) -> Door:
    made = Door(may_be_open)
    made.learn(keys)
    return made


def told(lines: bytes) -> dict[bytes, bytes]:
    """Headers, as they are sent."""
    return dict(tuple(line.split(b": ", 1)) for line in lines.splitlines())


def refusal(door: Door, authorization: bytes | None) -> Refused:
    with pytest.raises(Refused) as caught:
        door.admit(authorization)
    return caught.value


def test_a_key_opens_with_its_role() -> None:
    admin, admin_header = key(role=Role.ADMIN)
    user, user_header = key()
    opened = door(admin, user)
    assert opened.admit(admin_header).role is Role.ADMIN
    caller = opened.admit(user_header)
    assert (caller.key_id, caller.role) == (user.key.id, Role.USER)
    assert opened.admit(b"bearer  " + user_header[7:] + b" ") == caller  # the scheme's case and spaces are free


def strangers() -> Iterable[bytes | None]:
    known, header = key()
    flipped = header[:-1] + (b"0" if header[-1:] != b"0" else b"1")
    yield from (None, b"", b"Bearer", b"Bearer ", b"Bearer unused", header[:-1], header + b"0", flipped)
    yield from (b"Basic " + header[7:], header[7:], header.replace(known.key.id.encode(), b"0" * 12))
    yield b"Bearer " + b"\xff" * 84


def test_whatever_is_no_key_is_a_401_that_says_how() -> None:
    known, _ = key()
    for authorization in strangers():
        refused = refusal(door(known), authorization)
        assert refused.status == 401
        assert (b"www-authenticate", b'Bearer realm="Hearth"') in refused.headers


def test_a_key_of_another_record_does_not_open() -> None:
    one, _ = key()
    _, other_header = key()
    assert refusal(door(one), other_header).status == 401


def test_a_revoked_and_an_expired_key_open_nothing() -> None:
    revoked, header = key(revoked_at=now())
    expired, expired_header = key(expires_at=now())
    opened = door(revoked, expired)
    assert refusal(opened, header).status == 401
    assert refusal(opened, expired_header).status == 401


def test_on_a_connection_that_has_shown_a_key_another_header_is_another_and_a_lost_key_opens_no_more() -> None:
    (one, header), (other, other_header), (brief, brief_header) = key(), key(), key(expires_at=now() + HOUR)
    opened = door(one, other, brief)
    visitor = Visitor(opened)
    for asked, known in ((header, one), (header, one), (other_header, other), (brief_header, brief)):
        assert visitor.admit(asked).key_id == known.key.id
    for stranger in strangers():
        with pytest.raises(Refused):
            visitor.admit(stranger)
    assert visitor.admit(brief_header).key_id == brief.key.id
    opened._expiring[brief.key.id] = now()
    opened.drop_expired()
    with pytest.raises(Refused):
        visitor.admit(brief_header)
    assert visitor.admit(header).key_id == one.key.id
    opened.learn([other])
    with pytest.raises(Refused):
        visitor.admit(header)


def test_a_connection_of_open_days_is_shut_with_the_first_key_and_one_with_a_key_follows_its_changes() -> None:
    opened = door(may_be_open=True)
    visitor = Visitor(opened)
    assert visitor.admit(b"Bearer x").key_id == OPEN
    stored, header = key(role=Role.ADMIN)
    opened.learn([stored])
    with pytest.raises(Refused):
        visitor.admit(b"Bearer x")
    assert visitor.admit(header).role is Role.ADMIN
    less = {"role": Role.USER, "models": ("LLM",), "limits": Limits(requests_per_minute=1)}
    opened.learn([StoredKey(stored.key.model_copy(update=less), stored.digest)])
    caller = visitor.admit(header)
    assert (caller.role, caller.models, caller.meter is not None) == (Role.USER, {"LLM"}, True)


def test_keys_that_cannot_be_read_let_nobody_in_by_an_older_visit() -> None:
    opened = door(may_be_open=True)
    visitor = Visitor(opened)
    assert visitor.admit(b"Bearer x").key_id == OPEN
    wrong = StoredKey(ApiKey.model_construct(id="0" * 12, revoked_at=None, limits=None), b"")
    with pytest.raises(AttributeError):
        opened.learn([wrong])
    with pytest.raises(Refused):
        visitor.admit(b"Bearer x")


def test_without_keys_it_is_open_only_where_it_may_be() -> None:
    assert door(may_be_open=True).admit(None).key_id == OPEN
    assert refusal(door(may_be_open=False), None).status == 401


def test_once_there_was_a_key_it_is_never_open_again() -> None:
    revoked, _ = key(revoked_at=now())
    assert refusal(door(revoked, may_be_open=True), None).status == 401


def test_before_the_keys_were_read_nobody_is_let_in() -> None:
    refused = refusal(Door(may_be_open=True), b"Bearer x")
    assert (refused.status, dict(refused.headers)[b"retry-after"]) == (503, b"2")


def test_a_key_is_for_its_models() -> None:
    known, header = key(models=("LLM",))
    caller = door(known).admit(header)
    caller.begin("LLM", stream=False).end()
    with pytest.raises(Refused, match="it is for: LLM") as caught:
        caller.begin("other", stream=False)
    assert caught.value.status == 403


def test_requests_per_minute(clock: Clock) -> None:
    known, header = key(limits=Limits(requests_per_minute=3))
    caller = door(known).admit(header)
    remaining = [told(caller.begin("LLM", stream=False).lines)[b"x-ratelimit-remaining-requests"] for _ in range(3)]
    assert remaining == [b"2", b"1", b"0"]
    with pytest.raises(Refused) as caught:
        caller.begin("LLM", stream=False)
    headers = dict(caught.value.headers) | told(caught.value.lines)
    assert (caught.value.status, headers[b"retry-after"]) == (429, b"20")
    assert headers[b"x-ratelimit-limit-requests"] == b"3"
    assert headers[b"x-ratelimit-reset-requests"] == b"1m0s"
    clock.now += 20.0
    caller.begin("LLM", stream=False)  # after Retry-After it is taken
    with pytest.raises(Refused):
        caller.begin("LLM", stream=False)


def test_tokens_per_minute_are_a_debt_that_is_paid_back(clock: Clock) -> None:
    known, header = key(limits=Limits(tokens_per_minute=60))
    caller = door(known).admit(header)
    caller.begin("LLM", stream=False).end(prompt_tokens=50, completion_tokens=40)
    with pytest.raises(Refused) as caught:
        caller.begin("LLM", stream=False)
    headers = dict(caught.value.headers) | told(caught.value.lines)
    assert (headers[b"retry-after"], headers[b"x-ratelimit-remaining-tokens"]) == (b"31", b"0")
    clock.now += 31
    caller.begin("LLM", stream=False).end(embedding_tokens=1)


def test_streams_and_requests_at_once() -> None:
    known, header = key(limits=Limits(concurrent_streams=1, concurrent_requests=2))
    caller = door(known).admit(header)
    stream = caller.begin("LLM", stream=True)
    with pytest.raises(Refused, match="1 streams at once") as caught:
        caller.begin("LLM", stream=True)
    assert (caught.value.status, dict(caught.value.headers)[b"retry-after"]) == (429, b"1")
    plain = caller.begin("LLM", stream=False)
    with pytest.raises(Refused, match="2 requests at once"):
        caller.begin("LLM", stream=False)
    stream.end()
    plain.end()
    caller.begin("LLM", stream=True)


def test_changed_limits_hold_for_what_is_at_work() -> None:
    known, header = key(limits=Limits(concurrent_requests=2))
    opened = door(known)
    slot = opened.admit(header).begin("LLM", stream=False)
    changed = known.key.model_copy(update={"limits": Limits(concurrent_requests=1)})
    opened.learn([StoredKey(changed, known.digest)])
    with pytest.raises(Refused):
        opened.admit(header).begin("LLM", stream=False)
    slot.end()
    opened.admit(header).begin("LLM", stream=False)


def test_a_refused_request_is_not_counted_and_an_answered_one_once() -> None:
    known, header = key(limits=Limits(concurrent_requests=1))
    opened = door(known)
    caller = opened.admit(header)
    slot = caller.begin("LLM", stream=False)
    with pytest.raises(Refused):
        caller.begin("LLM", stream=False)
    slot.end(prompt_tokens=1, completion_tokens=2)
    caller.begin("LLM", stream=False).end(embedding_tokens=4)
    batch = opened.ledger.batch()
    assert batch is not None
    ((of, counts),) = batch.used.items()
    assert (of.key_id, of.model, counts) == (known.key.id, "LLM", [2, 1, 2, 4])


def test_a_batch_stays_the_same_until_it_arrived() -> None:
    opened = door(may_be_open=True)
    caller = opened.admit(None)
    caller.begin("LLM", stream=False).end(prompt_tokens=1)
    first = opened.ledger.batch()
    caller.begin("LLM", stream=False).end(prompt_tokens=2)
    assert opened.ledger.batch() is first
    opened.ledger.arrived()
    second = opened.ledger.batch()
    assert first is not None and second is not None
    assert (first.number, second.number) == (1, 2)
    assert list(second.used.values()) == [[1, 2, 0, 0]]
    opened.ledger.arrived()
    assert opened.ledger.batch() is None


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, b"0ms"), (0.0121, b"13ms"), (1.5, b"1.5s"), (60, b"1m0s"), (90.25, b"1m30.25s")]
)
def test_a_span_is_written_as_openai_writes_it(seconds: float, text: bytes) -> None:
    assert span(seconds) == text
