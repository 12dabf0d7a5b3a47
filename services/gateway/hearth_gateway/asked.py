"""What a request asks, and what an answer says it cost, as they are written: the gateway reads no more of the JSON.

Apart from `usage`, since mypyc, which compiles that, takes from these classes the types that msgspec reads them by.
"""

import json
import re

import msgspec

from hearth_gateway.replies import Refused

EVERY_EVENT = b'"stream_options":{"include_usage":true,"continuous_usage_stats":true}'
WRONG = re.compile(r"\$\.(\w+)")


class Usage(msgspec.Struct, frozen=True):
    """Tokens, by what they were for."""

    prompt_tokens: int = 0
    completion_tokens: int | None = None
    total_tokens: int = 0


class StreamOptions(msgspec.Struct, frozen=True):
    """What a client wants to be told in a stream."""

    include_usage: bool | None = None
    continuous_usage_stats: bool | None = None


class Asked(msgspec.Struct, frozen=True):
    """What the gateway reads of a request's body; the rest is skipped at a gigabyte a second."""

    model: str
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    n: int | None = None
    prompt: msgspec.Raw = msgspec.Raw(b"")
    messages: msgspec.Raw = msgspec.Raw(b"")

    @property
    def has_choices(self) -> bool:
        """Whether the answer may have more than one choice, each counted by itself."""
        return (self.n or 1) != 1 or bytes(self.prompt).startswith(b"[")


_ASKED = msgspec.json.Decoder(Asked)
_USAGE = msgspec.json.Decoder(Usage)


def read_asked(body: bytes) -> Asked:
    """Raises Refused: 400 when it is no JSON object with a model's name."""
    try:
        asked = _ASKED.decode(body)
    except msgspec.ValidationError as error:
        if "got `" in str(error) and "`$" not in str(error):
            raise Refused(400, "the body must be a JSON object") from None
        raise _wrong_field(str(error)) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Refused(400, f"the body is not JSON: {error}") from None
    if not asked.model:
        raise _wrong_field("model")
    return asked


def _wrong_field(message: str) -> Refused:
    field = WRONG.search(message)
    if field is not None and field[1] != "model":
        return Refused(400, f"`{field[1]}`: {message}", param=field[1])
    return Refused(400, "`model` must name a model, e.g. Compressa-LLM", param="model")


def ask_for_usage(body: bytes, asked: Asked) -> bytes:
    """The body of a stream's request, changed so that the engine tells with each event what was used.

    The option is put behind the opening brace. Where the client gave options of its own, the top level is joined anew
    from its values, each byte for byte.
    """
    if asked.stream_options is None and b"stream_options" not in body:
        at = body.index(b"{") + 1
        return b"%b%b,%b" % (body[:at], EVERY_EVENT, body[at:])
    fields: dict[str, msgspec.Raw] = msgspec.json.decode(body, type=dict[str, msgspec.Raw])
    fields.pop("stream_options", None)
    rest = (b"%b:%b" % (json.dumps(name).encode(), bytes(value)) for name, value in fields.items())
    return b"{%b}" % b",".join([EVERY_EVENT, *rest])


def read_usage(told: bytes) -> Usage:
    """What was used, as an engine told it; nothing where it told nothing, or in words of its own."""
    try:
        return _USAGE.decode(told) if told else Usage()
    except (msgspec.DecodeError, UnicodeDecodeError):
        return Usage()  # another engine's idea of usage; the answer has passed all the same
