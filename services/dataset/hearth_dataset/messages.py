"""Are these messages a conversation that a model can learn from? Pure: values in, faults out."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from hearth_contracts.rows import SHAREGPT_ROLES

Place = tuple[str | int, ...]
"""Where in a row: a path of keys and indexes."""

OPENAI_ROLES = frozenset({"system", "developer", "user", "assistant", "tool"})
LEADING = frozenset({"system", "developer"})
MOST_FAULTS_IN_ROW = 100
LONGEST_SHOWN = 60


@dataclass(frozen=True)
class RowFault:
    """What is wrong in a row, and where."""

    where: Place
    why: str


class Faults(list[RowFault]):
    """The faults of one row, no more than are worth reading."""

    def add(self, where: Place, why: str) -> None:
        """Note one."""
        if not self.full:
            self.append(RowFault(where, why))

    @property
    def full(self) -> bool:
        """Whether more would be ignored."""
        return len(self) >= MOST_FAULTS_IN_ROW


@dataclass(frozen=True)
class Turn:
    """A message, whatever format it came in."""

    where: Place
    role: str
    call_ids: frozenset[str] = frozenset()  # of the tools it calls
    answers: str | None = None  # the call that a tool message answers
    learnt: bool = True  # false for an assistant message of weight 0


def read_openai(where: Place, listed: Any, faults: Faults) -> list[Turn]:
    """The turns of a list of messages with `role` and `content`."""
    return _read(where, listed, faults, _openai)


def read_sharegpt(where: Place, listed: Any, faults: Faults) -> list[Turn]:
    """The turns of a list of messages with `from` and `value`."""
    return _read(where, listed, faults, _sharegpt)


def _read(where: Place, listed: Any, faults: Faults, read: Callable[[Place, Any, Faults], Turn | None]) -> list[Turn]:
    if not isinstance(listed, list) or not listed:
        faults.add(where, "must be a list of at least one message")
        return []
    turns = []
    for index, message in enumerate(listed):
        turn = read((*where, index), message, faults)
        if turn is not None:
            turns.append(turn)
        if faults.full:
            break
    return turns


def _openai(where: Place, message: Any, faults: Faults) -> Turn | None:
    if not isinstance(message, dict):
        faults.add(where, "must be an object with `role` and `content`")
        return None
    role = message.get("role")
    if not isinstance(role, str) or role not in OPENAI_ROLES:
        faults.add((*where, "role"), f"must be one of {', '.join(sorted(OPENAI_ROLES))}; it is {shown(role)}")
        return None
    calls = _check_calls(where, role, message, faults)
    content = message.get("content")
    if not (calls and content in (None, "")):
        _check_content((*where, "content"), content, faults)
    weight = message.get("weight")
    if weight is not None and (role != "assistant" or type(weight) is not int or weight not in (0, 1)):
        faults.add((*where, "weight"), "must be 0 or 1, and only assistant messages have one")
    answers = message.get("tool_call_id")
    if role == "tool" and not (isinstance(answers, str) and answers):
        faults.add((*where, "tool_call_id"), "a tool message needs the id of the call that it answers")
        return None
    return Turn(where, role, calls, answers if role == "tool" else None, learnt=weight != 0)


def _check_calls(where: Place, role: str, message: dict[str, Any], faults: Faults) -> frozenset[str]:
    """The ids of the tools that a message calls."""
    calls = message.get("tool_calls")
    if "tool_calls" not in message or calls is None:
        return frozenset()
    if role != "assistant" or not isinstance(calls, list) or not calls:
        faults.add((*where, "tool_calls"), "must be a list of at least one call, and only assistant messages have one")
        return frozenset()
    ids = []
    for index, call in enumerate(calls):
        place = (*where, "tool_calls", index)
        if not isinstance(call, dict) or not isinstance(call.get("function"), dict):
            faults.add(place, "must be an object with `id`, `type` and `function`")
            continue
        if not (isinstance(call.get("id"), str) and call["id"]) or call["id"] in ids:
            faults.add((*place, "id"), "must be a text of its own")
        else:
            ids.append(call["id"])
        if call.get("type", "function") != "function":
            faults.add((*place, "type"), f"must be function; it is {shown(call['type'])}")
        function = call["function"]
        if not (isinstance(function.get("name"), str) and function["name"]):
            faults.add((*place, "function", "name"), "must be the name of a function")
        if not _is_object(function.get("arguments")):
            faults.add((*place, "function", "arguments"), "must be a JSON object, or a text that holds one")
        if faults.full:
            break
    return frozenset(ids)


def _is_object(arguments: Any) -> bool:
    if isinstance(arguments, str):
        try:
            arguments = json.loads(arguments)
        except (ValueError, RecursionError):
            return False
    return isinstance(arguments, dict)


def check_tools(where: Place, tools: Any, faults: Faults) -> None:
    """The functions that a row says its assistant may call; None where it says nothing."""
    if tools is None:
        return
    if not isinstance(tools, list):
        faults.add(where, "must be a list of functions as OpenAI's API takes them")
        return
    for index, tool in enumerate(tools):
        function = tool.get("function") if isinstance(tool, dict) else None
        if not isinstance(function, dict) or tool.get("type") != "function":
            faults.add((*where, index), "must be an object with `type`: function and `function`")
        elif not (isinstance(function.get("name"), str) and function["name"]):
            faults.add((*where, index, "function", "name"), "must be the name of a function")
        elif not isinstance(function.get("parameters", {}), dict):
            faults.add((*where, index, "function", "parameters"), "must be a JSON schema, which is an object")


def _sharegpt(where: Place, message: Any, faults: Faults) -> Turn | None:
    if not isinstance(message, dict):
        faults.add(where, "must be an object with `from` and `value`")
        return None
    role = SHAREGPT_ROLES.get(str(message.get("from")))
    if role is None:
        faults.add((*where, "from"), f"must be human, gpt or system; it is {shown(message.get('from'))}")
        return None
    check_text((*where, "value"), message.get("value"), faults)
    return Turn(where, role)


def _check_content(where: Place, content: Any, faults: Faults) -> None:
    """A text, or OpenAI's list of parts, all of them texts."""
    if not isinstance(content, list):
        check_text(where, content, faults)
        return
    for index, part in enumerate(content):
        if not (isinstance(part, dict) and part.get("type") == "text" and isinstance(part.get("text"), str)):
            faults.add((*where, index), "must be a part of type text; a language model learns from nothing else")
            return
    check_text(where, "".join(part["text"] for part in content), faults)


def check_text(where: Place, text: Any, faults: Faults) -> None:
    """Text with something in it."""
    if not isinstance(text, str) or not text or text.isspace():
        faults.add(where, "must be text that is not empty")


def shown(value: Any) -> str:
    """A value as a fault's words show it."""
    text = repr(value)
    return text if len(text) <= LONGEST_SHOWN else f"{text[:LONGEST_SHOWN]}..."


def check_order(where: Place, turns: list[Turn], faults: Faults) -> None:
    """System first, then user and assistant in turn, tool results after their call; and an assistant to learn from."""
    answers = [turn for turn in turns if turn.role == "assistant"]
    if not answers:
        faults.add(where, "has no assistant message, so there is nothing to learn from")
        return
    if not any(turn.learnt for turn in answers):
        faults.add(where, "every assistant message has weight 0, so there is nothing to learn from")
    before: Turn | None = None
    called: frozenset[str] = frozenset()
    for index, turn in enumerate(turns):
        if why := _out_of_order(turn, index, before, called):
            faults.add(turn.where, why)
        if turn.role == "assistant":
            called = turn.call_ids
        before = turn


def _out_of_order(turn: Turn, index: int, before: Turn | None, called: frozenset[str]) -> str | None:
    """Why a turn cannot stand where it does; `called` are the ids of the tools last called."""
    if turn.role in LEADING:
        return None if index == 0 else f"a {turn.role} message can only come first"
    if turn.role == "tool":
        if before is None or not (before.call_ids or before.role == "tool"):
            return "a tool message must follow an assistant message with tool_calls"
        return None if turn.answers in called else f"answers {shown(turn.answers)}, which is no call made before it"
    if turn.role == "user":
        return "two user messages in a row; join them" if before is not None and before.role == "user" else None
    if before is None or before.role in LEADING:
        return "an assistant message must follow a user message"
    if before.role == "assistant":
        if before.call_ids:
            return "the tools called before it have not answered"
        return "two assistant messages in a row; join them"
    return None
