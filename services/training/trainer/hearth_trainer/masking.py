"""From a conversation to token ids and labels: only what the assistant says is learnt, its end of turn included."""

from dataclasses import dataclass
from typing import Any

from hearth_trainer.conversations import Conversation, PlainText, Row, with_chosen

IGNORED = -100
"""The label of a token that does not count (PyTorch's cross-entropy skips it)."""


class CannotEncode(Exception):
    """The model's chat template does not take this conversation; the message says why."""


@dataclass(frozen=True)
class Example:
    """One training row: two lists of the same length."""

    input_ids: list[int]
    labels: list[int]  # the token's id where it is learnt, IGNORED elsewhere


def encode_row(tokenizer: Any, row: Row) -> Example:
    """A conversation; of a preference pair the better one; of plain text all, and its end. Raises CannotEncode."""
    if isinstance(row, PlainText):
        ids: list[int] = [*tokenizer(row.text)["input_ids"], tokenizer.eos_token_id]
        return Example(ids, list(ids))
    return encode(tokenizer, row if isinstance(row, Conversation) else with_chosen(row))


def encode(tokenizer: Any, conversation: Conversation) -> Example:
    """Render with the model's own chat template and mark the assistant's tokens. Raises CannotEncode.

    The assistant's words are found by rendering the conversation up to each of its turns: what the turn adds is
    its own. That needs no {% generation %} markers; where a template rewrites earlier turns, so that this does not
    hold, the markers are used if it has them.
    """
    try:
        whole = _render(tokenizer, conversation, len(conversation.messages))
        spans = _spans(tokenizer, conversation, whole)
        if spans is None:
            return _encode_by_markers(tokenizer, conversation)
    except CannotEncode:
        raise
    except Exception as error:  # a template raises whatever it likes: jinja2's errors, KeyError, TypeError
        raise CannotEncode(f"the model's chat template refuses it: {error}") from error
    encoded = tokenizer(whole, add_special_tokens=False, return_offsets_mapping=True)
    ids: list[int] = encoded["input_ids"]
    learnt = [any(start < last and first < end for start, end in spans) for first, last in encoded["offset_mapping"]]
    return Example(ids, [token if counts else IGNORED for token, counts in zip(ids, learnt, strict=True)])


def _render(tokenizer: Any, conversation: Conversation, count: int, prompt: bool = False) -> str:
    text: str = tokenizer.apply_chat_template(
        conversation.messages[:count], tools=conversation.tools, tokenize=False, add_generation_prompt=prompt
    )
    return text


def _spans(tokenizer: Any, conversation: Conversation, whole: str) -> list[tuple[int, int]] | None:
    """The characters of each turn to learn, or None when the template is not a plain concatenation of turns."""
    spans = []
    for index, learn in enumerate(conversation.learn):
        if not learn:
            continue
        before = _render(tokenizer, conversation, index, prompt=True)
        after = _render(tokenizer, conversation, index + 1)
        if not (after.startswith(before) and whole.startswith(after.rstrip())):
            return None
        # The white space that a template puts between turns is not the assistant's.
        spans.append((len(before), len(after.rstrip())))
    return spans


def _encode_by_markers(tokenizer: Any, conversation: Conversation) -> Example:
    if "{% generation" not in tokenizer.chat_template.replace("{%-", "{%"):
        raise CannotEncode(
            "the model's chat template rewrites earlier turns and has no {% generation %} markers, "
            "so what the assistant said cannot be told from the rest"
        )
    encoded = tokenizer.apply_chat_template(
        conversation.messages, tools=conversation.tools, return_dict=True, return_assistant_tokens_mask=True
    )
    ids: list[int] = list(encoded["input_ids"])
    turns = _runs(encoded["assistant_masks"])
    learn = [learn for m, learn in zip(conversation.messages, conversation.learn, strict=True) if _is_assistant(m)]
    if not all(learn) and len(turns) != len(learn):  # else it does not matter which turn is which
        raise CannotEncode("the model's chat template does not show each turn by itself, so weight 0 cannot be heeded")
    wanted = turns if all(learn) else [turn for turn, counts in zip(turns, learn, strict=True) if counts]
    labels = [IGNORED] * len(ids)
    for start, end in wanted:
        labels[start:end] = ids[start:end]
    return Example(ids, labels)


def _is_assistant(message: dict[str, Any]) -> bool:
    return message["role"] == "assistant"


def _runs(mask: list[int]) -> list[tuple[int, int]]:
    """Where the mask is 1: the start and end of each unbroken stretch."""
    starts = [i for i, counts in enumerate(mask) if counts and not (i and mask[i - 1])]
    ends = [i + 1 for i, counts in enumerate(mask) if counts and not (i + 1 < len(mask) and mask[i + 1])]
    return list(zip(starts, ends, strict=True))


def cut(example: Example, max_length: int) -> Example:
    """The first `max_length` tokens."""
    return Example(example.input_ids[:max_length], example.labels[:max_length])


def learns_something(example: Example) -> bool:
    """Whether any token counts; the first never does, since nothing comes before it to predict it from."""
    return any(label != IGNORED for label in example.labels[1:])
