"""What is read of requests and answers: exact however the bytes are cut; nothing but usage is taken out of events."""

import itertools
import json
from typing import Any

import pytest
from hearth_gateway.asked import Usage, ask_for_usage, read_asked
from hearth_gateway.replies import Refused
from hearth_gateway.usage import ReplyUsage, StreamUsage, tokens
from hypothesis import given
from hypothesis import strategies as st

TEXT = st.text(max_size=20) | st.sampled_from(
    ['"usage"', ',"usage":{', '"choices":[]', "\n\n", "data: ", "}}", "usage"]
)
CUTS = st.lists(st.integers(0, 20_000), max_size=12)


def dumped(value: Any, compact: bool) -> bytes:
    return json.dumps(value, separators=(",", ":") if compact else None, ensure_ascii=compact).encode()


def usage_of(prompt: int, completion: int, nested: bool) -> dict[str, Any]:
    usage: dict[str, Any] = {
        "prompt_tokens": prompt, "total_tokens": prompt + completion, "completion_tokens": completion,
    }  # fmt: skip
    return usage | ({"completion_tokens_details": {"reasoning_tokens": 1}} if nested else {})


@st.composite
def streams(draw: st.DrawFn) -> list[dict[str, Any]]:
    """The chunks of a stream with usage in each, as vLLM sends them; keys may stand in any order."""
    nested = draw(st.booleans())
    chunks: list[dict[str, Any]] = []
    for number, text in enumerate(draw(st.lists(TEXT, min_size=1, max_size=6))):
        chunk: dict[str, Any] = {"id": "x", "choices": [{"index": 0, "delta": {"content": text}}]}
        chunk["usage"] = usage_of(7, number, nested)
        if draw(st.booleans()):
            chunk["system_fingerprint"] = text
        if draw(st.booleans()):
            chunk = {"usage": chunk.pop("usage"), **chunk}
        chunks.append(chunk)
    return [*chunks, {"id": "x", "choices": [], "usage": usage_of(7, len(chunks), nested)}]


def through(reader: StreamUsage, data: bytes, cuts: list[int]) -> bytes:
    ends = sorted({cut % (len(data) + 1) for cut in cuts} | {0, len(data)})
    pieces = [reader.feed(data[begin:end]) for begin, end in itertools.pairwise(ends)]
    return b"".join(pieces) + reader.rest()


def events(data: bytes) -> list[Any]:
    found = [event.removeprefix(b"data: ") for event in data.split(b"\n\n") if event]
    return [event.decode() if event == b"[DONE]" else json.loads(event) for event in found]


@given(streams(), CUTS, st.booleans(), st.sampled_from([None, {"include_usage": True}, {"include_usage": False}]))
def test_a_client_sees_just_the_usage_it_asked_for_and_all_else(
    chunks: list[dict[str, Any]], cuts: list[int], compact: bool, options: dict[str, Any] | None
) -> None:
    reader = StreamUsage(read_asked(json.dumps({"model": "m", "stream": True, "stream_options": options}).encode()))
    wire = b"".join(b"data: " + dumped(chunk, compact) + b"\n\n" for chunk in chunks) + b"data: [DONE]\n\n"
    seen = events(through(reader, wire, cuts))
    expected: list[Any] = [{key: value for key, value in chunk.items() if key != "usage"} for chunk in chunks[:-1]]
    if options and options["include_usage"]:
        expected.append(chunks[-1])
    assert seen == [*expected, "[DONE]"]
    assert reader.used() == Usage(7, len(chunks) - 1, 7 + len(chunks) - 1)


@given(streams(), CUTS)
def test_who_asks_for_usage_with_each_event_sees_every_byte(chunks: list[dict[str, Any]], cuts: list[int]) -> None:
    options = {"include_usage": True, "continuous_usage_stats": True}
    reader = StreamUsage(read_asked(json.dumps({"model": "m", "stream_options": options}).encode()))
    wire = b"".join(b"data: " + dumped(chunk, True) + b"\n\n" for chunk in chunks)
    assert through(reader, wire, cuts) == wire


def test_of_a_stream_that_is_cut_short_what_came_is_counted() -> None:
    reader = StreamUsage(read_asked(b'{"model":"m","stream":true}'))
    for number in range(3):
        chunk = {"choices": [{"index": 0}], "usage": usage_of(5, number, False)}
        reader.feed(b"data: " + dumped(chunk, True) + b"\n\n")
    assert tokens(reader.used(), embeds=False) == {"prompt_tokens": 5, "completion_tokens": 2}


def test_choices_and_prompts_are_added_up_when_cut_short() -> None:
    reader = StreamUsage(read_asked(b'{"model":"m","stream":true,"n":2,"prompt":["a","b"]}'))
    for index, prompt, completion in ((0, 5, 1), (1, 5, 4), (2, 9, 2), (0, 5, 3), (3, 9, 1)):
        chunk = {"choices": [{"index": index}], "usage": usage_of(prompt, completion, False)}
        reader.feed(b"data: " + dumped(chunk, True) + b"\n\n")
    used = reader.used()
    assert (used.prompt_tokens, used.completion_tokens) == (5 + 9, 3 + 4 + 2 + 1)


def test_what_is_no_event_stream_of_ours_still_passes() -> None:
    reader = StreamUsage(read_asked(b'{"model":"m"}'))
    wire = b"data: a\r\n\r\n" * 200_000
    assert reader.feed(wire) + reader.rest() == wire
    wire = b'data: {"usage":7}\n\ndata: {"usage":null}\n\n: ping\n\n'
    assert reader.feed(wire) == wire
    assert reader.used() == Usage()


@given(
    st.dictionaries(st.text(max_size=8) | st.just("stream_options"), st.integers() | TEXT | st.none(), max_size=4),
    st.sampled_from([None, {}, {"include_usage": True}, {"include_usage": False, "continuous_usage_stats": False}]),
    st.booleans(),
)
def test_an_engine_is_asked_for_usage_and_for_nothing_else(
    fields: dict[str, Any], options: dict[str, Any] | None, compact: bool
) -> None:
    fields = fields | {"model": "m", "stream": True, "messages": [{"content": '"stream_options":{}'}]}
    fields.pop("prompt", None), fields.pop("n", None), fields.pop("stream_options", None)
    if options is not None:
        fields["stream_options"] = options
    body = dumped(fields, compact)
    sent = json.loads(ask_for_usage(body, read_asked(body)))
    assert sent.pop("stream_options") == {"include_usage": True, "continuous_usage_stats": True}
    fields.pop("stream_options", None)
    assert sent == fields


def test_values_stay_byte_for_byte_when_options_are_given() -> None:
    body = b'{ "model":"m", "temperature": 1.50e0, "stream_options" : {}, "x":"\\u0416", "stream":true}'
    sent = ask_for_usage(body, read_asked(body))
    assert b":1.50e0" in sent and b'"\\u0416"' in sent


@given(st.integers(0, 10**9), st.integers(0, 10**9), st.booleans(), st.integers(0, 3000), CUTS)
def test_usage_is_found_in_a_whole_reply_however_it_is_cut(
    prompt: int, completion: int, compact: bool, size: int, cuts: list[int]
) -> None:
    reply = {
        "choices": [{"text": '"usage":{"prompt_tokens":1}' + "x" * size}],
        "usage": usage_of(prompt, completion, True),
    }
    reply["prompt_logprobs"] = ["y" * size]
    data = dumped(reply, compact)
    reader = ReplyUsage()
    ends = sorted({cut % (len(data) + 1) for cut in cuts} | {0, len(data)})
    for begin, end in itertools.pairwise(ends):
        reader.feed(data[begin:end])
    assert reader.used() == Usage(prompt, completion, prompt + completion)


def test_a_reply_without_usage_counts_nothing() -> None:
    reader = ReplyUsage()
    reader.feed(b'{"error":{"message":"usage"}}')
    assert reader.used() == Usage()


def test_embeddings_are_counted_as_embedded() -> None:
    assert tokens(Usage(3, None, 3), embeds=True) == {"embedding_tokens": 3}


def test_the_last_of_two_models_counts_as_it_does_for_an_engine() -> None:
    body = b'{"model":"allowed","mod\\u0065l":"other"}'
    assert read_asked(body).model == json.loads(body)["model"] == "other"


@pytest.mark.parametrize(
    ("body", "word", "param"),
    [
        (b"", "not JSON", None), (b"{", "not JSON", None), (b'{"model":"m"} x', "not JSON", None),
        (b'{"model":"\xff"}', "not JSON", None), (b"[]", "JSON object", None), (b"7", "JSON object", None),
        (b"{}", "must name a model", "model"), (b'{"model":7}', "must name a model", "model"),
        (b'{"model":""}', "must name a model", "model"), (b'{"model":"m","stream":1}', "bool", "stream"),
        (b'{"model":"m","stream_options":7}', "object", "stream_options"), (b'{"model":"m","n":"2"}', "int", "n"),
        (b'{"model":"m","stream_options":{"include_usage":"x"}}', "bool", "stream_options"),
        (b"[" * 100_000, "JSON object", None), (b'{"x":' + b"[" * 100_000, "not JSON", None),
    ],
)  # fmt: skip
def test_a_body_that_cannot_be_used_says_why(body: bytes, word: str, param: str | None) -> None:
    with pytest.raises(Refused) as caught:
        read_asked(body)
    assert caught.value.status == 400
    error = json.loads(caught.value.body)["error"]
    assert word in error["message"]
    assert error["param"] == param
