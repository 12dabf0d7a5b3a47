"""OpenAI's own client on the real platform: what the engines can do arrives whole, and so does what they refuse."""

import base64
import json
import struct
from collections.abc import Iterator
from typing import Any, Literal

import httpx
import openai
import pytest
from pydantic import BaseModel

from tests.conftest import Running

pytestmark = [pytest.mark.timeout(600), pytest.mark.usefixtures("deployed")]

LLM = "Compressa-LLM"
EMBEDDING = "Compressa-Embedding"
ASK = [{"role": "user", "content": "Say something."}]
# The tiny model repeats its last token, whatever the temperature; without the special ones it has text to repeat, and
# which one is drawn by chance.
# For the same reason answers in a grammar have a frequency penalty: else it repeats one blank for ever.
NO_SPECIAL = {str(token): -100 for token in range(6)}
WEATHER = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "The weather in a city",
        "parameters": {
            "type": "object",
            "properties": {"city": {"enum": ["Kazan", "Omsk"]}},
            "required": ["city"],
            "additionalProperties": False,
        },
    },
}


class Verdict(BaseModel):
    verdict: Literal["yes", "no"]
    sure: bool


@pytest.fixture(params=["/v1", "/api/v1"])
def client(platform: Running, request: pytest.FixtureRequest) -> Iterator[openai.OpenAI]:
    """The client, with either address."""
    url = f"{platform.url}{request.param}"
    with openai.OpenAI(base_url=url, api_key="unused", max_retries=0, timeout=120) as made:
        yield made


def chat(client: openai.OpenAI, **more: Any) -> Any:
    """A chat completion, or the stream of one."""
    asked = {"model": LLM, "messages": ASK, "max_tokens": 12, "temperature": 0, "logit_bias": NO_SPECIAL, **more}
    return client.chat.completions.create(**asked)


def test_several_answers_are_made(client: openai.OpenAI) -> None:
    reply = chat(client, n=3, temperature=2, seed=1)
    assert [choice.index for choice in reply.choices] == [0, 1, 2]
    assert len({choice.message.content for choice in reply.choices}) > 1


def test_a_seed_repeats_an_answer(client: openai.OpenAI) -> None:
    texts = [chat(client, temperature=2, seed=seed).choices[0].message.content for seed in (5, 5, 6)]
    assert texts[0] == texts[1]
    assert texts[0] != texts[2]


def test_a_stop_ends_an_answer_before_it(client: openai.OpenAI) -> None:
    whole = client.completions.create(model=LLM, prompt="Hello", max_tokens=12, temperature=0).choices[0].text
    stop = whole[5:7]
    cut = client.completions.create(model=LLM, prompt="Hello", max_tokens=12, temperature=0, stop=[stop]).choices[0]
    assert (cut.text, cut.finish_reason) == (whole[: whole.index(stop)], "stop")


def test_logprobs_come_with_their_alternatives(client: openai.OpenAI) -> None:
    logprobs = chat(client, logprobs=True, top_logprobs=2).choices[0].logprobs
    assert logprobs is not None
    assert logprobs.content
    assert all(token.logprob <= 0 and len(token.top_logprobs) >= 2 for token in logprobs.content)
    text = client.completions.create(model=LLM, prompt="Hello", max_tokens=4, logprobs=1).choices[0].logprobs
    assert text is not None
    assert text.token_logprobs is not None
    assert len(text.token_logprobs) == 4


def test_usage_ends_a_stream_that_asks_for_it(client: openai.OpenAI) -> None:
    options = {"include_usage": True}
    events = list(chat(client, stream=True, stream_options=options, extra_body={"ignore_eos": True}))
    assert [event.usage is not None for event in events] == [False] * (len(events) - 1) + [True]
    assert events[-1].choices == []
    assert events[-1].usage is not None
    assert events[-1].usage.completion_tokens == 12
    whole = chat(client, extra_body={"ignore_eos": True})
    pieces = [event.choices[0].delta.content or "" for event in events[:-1]]
    assert "".join(pieces) == whole.choices[0].message.content != ""


def test_an_answer_in_a_json_schema_is_parsed(client: openai.OpenAI) -> None:
    reply = client.chat.completions.parse(
        model=LLM, messages=ASK, response_format=Verdict, max_tokens=400, temperature=0, frequency_penalty=2
    )
    assert isinstance(reply.choices[0].message.parsed, Verdict)


def test_a_tool_that_is_asked_for_by_name_is_called(client: openai.OpenAI) -> None:
    named = {"type": "function", "function": {"name": "weather"}}
    strict = {**WEATHER, "function": {**WEATHER["function"], "strict": True}}  # else any JSON may be the arguments
    message = chat(client, tools=[strict], tool_choice=named, max_tokens=200, frequency_penalty=2).choices[0].message
    (call,) = message.tool_calls
    assert call.function.name == "weather"
    assert json.loads(call.function.arguments)["city"] in ("Kazan", "Omsk")


def test_a_model_may_answer_without_the_tools_it_is_offered(client: openai.OpenAI) -> None:
    for choice in ("auto", "none"):
        message = chat(client, tools=[WEATHER], tool_choice=choice).choices[0].message
        assert message.content
        assert not message.tool_calls


def test_what_the_engine_refuses_keeps_its_status_and_words(client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError, match="temperature"):
        chat(client, temperature=-1)
    with pytest.raises(openai.BadRequestError, match="1024"):  # the model's context
        client.completions.create(model=LLM, prompt="Hello", max_tokens=5000)


def test_an_unknown_model_is_a_404_that_says_what_is_served(client: openai.OpenAI, adapter_id: str) -> None:
    with pytest.raises(openai.NotFoundError) as refusal:
        chat(client, model="gpt-nothing")
    assert (refusal.value.code, refusal.value.param) == ("model_not_found", "model")
    assert LLM in refusal.value.message
    assert adapter_id in refusal.value.message
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("gpt-nothing")


def test_a_model_for_another_task_is_a_400_that_says_so(platform: Running, client: openai.OpenAI) -> None:
    platform.await_embedding()
    with pytest.raises(openai.BadRequestError, match="generates text"):
        client.embeddings.create(model=LLM, input="Hello")
    with pytest.raises(openai.BadRequestError, match="embeds text"):
        chat(client, model=EMBEDDING)


def test_models_are_listed_and_shown_by_ids_with_a_slash_too(
    client: openai.OpenAI, model_id: str, adapter_id: str
) -> None:
    listed = {model.id: model for model in client.models.list()}
    assert {LLM, model_id, adapter_id} <= listed.keys()
    for name in (LLM, model_id, adapter_id):
        assert client.models.retrieve(name) == listed[name]


def test_texts_are_embedded_one_by_one_and_together_as_numbers_and_base64(
    platform: Running, client: openai.OpenAI
) -> None:
    platform.await_embedding()
    texts = ["A cat.", "A dog.", "It rains."]
    together = client.embeddings.create(model=EMBEDDING, input=texts, encoding_format="float")
    assert [entry.index for entry in together.data] == [0, 1, 2]
    alone = client.embeddings.create(model=EMBEDDING, input=texts[1], encoding_format="float")
    assert alone.data[0].embedding == pytest.approx(together.data[1].embedding, abs=1e-4)
    raw = client.embeddings.with_raw_response.create(model=EMBEDDING, input=texts[1], encoding_format="base64")
    packed = base64.b64decode(httpx.Response(200, content=raw.content).json()["data"][0]["embedding"])
    assert struct.unpack("<384f", packed) == pytest.approx(alone.data[0].embedding, abs=1e-4)
    assert 0 < together.usage.prompt_tokens == together.usage.total_tokens


def test_token_arrays_are_refused_by_the_engine_with_its_own_words(platform: Running, client: openai.OpenAI) -> None:
    platform.await_embedding()
    with pytest.raises(openai.UnprocessableEntityError, match="valid string") as refusal:
        client.embeddings.create(model=EMBEDDING, input=[[1, 2], [3]])
    assert refusal.value.type == "invalid_request_error"


def test_embeddings_can_be_shorter(platform: Running, client: openai.OpenAI) -> None:
    platform.await_embedding()
    short = client.embeddings.create(model=EMBEDDING, input="A cat.", dimensions=64).data[0].embedding
    assert len(short) == 64


async def test_the_asynchronous_client_answers_and_streams(platform: Running) -> None:
    async with openai.AsyncOpenAI(base_url=f"{platform.url}/v1", api_key="unused", max_retries=0) as client:
        asked: dict[str, Any] = {"model": LLM, "messages": ASK, "max_tokens": 12, "logit_bias": NO_SPECIAL}
        whole = await client.chat.completions.create(**asked, temperature=0)
        stream = await client.chat.completions.create(**asked, temperature=0, stream=True)
        pieces = [event.choices[0].delta.content or "" async for event in stream if event.choices]
        assert "".join(pieces) == whole.choices[0].message.content
        assert len(pieces) > 2
