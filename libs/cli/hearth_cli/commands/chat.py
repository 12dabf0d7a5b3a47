"""`hearth chat`: talk to what is deployed, from the terminal."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import typer
from hearth_client import NotReached, Refused

from hearth_cli.console import hearth, say

if TYPE_CHECKING:
    from openai import OpenAI
    from openai.types.chat import ChatCompletionMessageParam as Message

DEFAULT_MODEL = "Compressa-LLM"


@dataclass
class Conversation:
    """Who is asked, how, and what was said so far."""

    openai: "OpenAI"
    model: str
    max_tokens: int | None
    temperature: float | None
    messages: "list[Message]"


def chat(
    prompt: Annotated[str | None, typer.Argument(help="asked once; `-` reads it from standard input")] = None,
    model: Annotated[str, typer.Option(help="the deployed base's name, or an adapter's id")] = DEFAULT_MODEL,
    system: Annotated[str | None, typer.Option(help="what the model is told first")] = None,
    max_tokens: Annotated[int | None, typer.Option(min=1, help="of each answer")] = None,
    temperature: Annotated[float | None, typer.Option(min=0, max=2)] = None,
) -> None:
    """Ask a model once, or, without a prompt, talk to it. The answer is printed as it comes."""
    told: list[Message] = [{"role": "system", "content": system}] if system else []
    with hearth() as client, client.openai(max_retries=0) as openai:
        conversation = Conversation(openai, model, max_tokens, temperature, told)
        if prompt is None:
            _converse(conversation)
        else:
            _ask(conversation, sys.stdin.read() if prompt == "-" else prompt)


def _converse(conversation: Conversation) -> None:
    say("an empty line or Ctrl-D ends it, Ctrl-C cuts an answer short")
    while True:
        try:
            line = input("> ").strip()
        except EOFError:
            return
        if not line:
            return
        try:
            _ask(conversation, line)
        except KeyboardInterrupt:
            typer.echo()


def _ask(conversation: Conversation, prompt: str) -> None:
    """Print the answer as it comes; question and answer join the conversation. Raises NotReached, Refused."""
    conversation.messages.append({"role": "user", "content": prompt})
    pieces: list[str] = []
    try:
        with _in_our_words(str(conversation.openai.base_url)):
            for piece in _answer(conversation):
                pieces.append(piece)
                sys.stdout.write(piece)
                sys.stdout.flush()
        typer.echo()
    finally:
        conversation.messages.append({"role": "assistant", "content": "".join(pieces)})


def _answer(asked: Conversation) -> Iterator[str]:
    """The answer's text, piece by piece."""
    for event in asked.openai.chat.completions.create(
        model=asked.model, messages=asked.messages, stream=True, max_tokens=asked.max_tokens,
        temperature=asked.temperature,
    ):  # fmt: skip
        if event.choices and (piece := event.choices[0].delta.content):
            yield piece


@contextmanager
def _in_our_words(url: str) -> Iterator[None]:
    """OpenAI's exceptions as the client's own, so that the exit codes are the same."""
    from openai import APIConnectionError, APIStatusError

    try:
        yield
    except APIStatusError as error:
        raise Refused(error.status_code, error.message, str(error.request.url), "") from error
    except APIConnectionError as error:
        raise NotReached(f"Hearth does not answer at {url}: {error}", remedy="`hearth up` starts it") from error
