"""The main job, whole: every service, real engines, a tiny model that the tests made."""

import openai
import pytest

from tests.conftest import Running

pytestmark = pytest.mark.timeout(600)


@pytest.fixture
def client(platform: Running) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{platform.url}/api/v1", api_key="unused", max_retries=0)


def ask(client: openai.OpenAI, model: str, question: str) -> str:
    reply = client.chat.completions.create(
        model=model, messages=[{"role": "user", "content": question}], max_tokens=40, temperature=0
    )
    return str(reply.choices[0].message.content)


def test_the_base_and_its_adapter_are_in_one_list(platform: Running, model_id: str, adapter_id: str) -> None:
    entries = {entry["model_id"]: entry for entry in platform.http.get("/api/v1/models/").json()}
    assert (entries[model_id]["adapter"], entries[model_id]["base_model_id"]) == (False, None)
    assert (entries[adapter_id]["adapter"], entries[adapter_id]["base_model_id"]) == (True, model_id)


@pytest.mark.usefixtures("deployed")
def test_the_adapter_answers_what_it_was_taught_and_the_base_does_not(
    client: openai.OpenAI, adapter_id: str, taught: list[tuple[str, str]]
) -> None:
    for question, answer in taught[:5]:
        assert ask(client, adapter_id, question).strip() == answer
        assert answer not in ask(client, "Compressa-LLM", question)


@pytest.mark.usefixtures("deployed")
def test_a_stream_comes_in_events_and_says_the_same(
    client: openai.OpenAI, adapter_id: str, taught: list[tuple[str, str]]
) -> None:
    question, answer = taught[0]
    events = list(
        client.chat.completions.create(
            model=adapter_id,
            messages=[{"role": "user", "content": question}],
            max_tokens=40,
            temperature=0,
            stream=True,
        )
    )
    pieces = [event.choices[0].delta.content or "" for event in events if event.choices]
    assert "".join(pieces).strip() == answer
    assert len([piece for piece in pieces if piece]) > 1


@pytest.mark.usefixtures("deployed")
def test_completions_are_served_by_the_base_under_both_its_names(client: openai.OpenAI, model_id: str) -> None:
    texts = {
        client.completions.create(model=name, prompt="Hello", max_tokens=8, temperature=0).choices[0].text
        for name in ("Compressa-LLM", model_id)
    }
    assert len(texts) == 1


def test_the_embedding_model_is_deployed_from_settings_and_counts_tokens(
    platform: Running, client: openai.OpenAI
) -> None:
    platform.await_embedding()
    reply = client.embeddings.create(model="Compressa-Embedding", input="Who won the world series in 2020?")
    assert len(reply.data[0].embedding) == 384
    assert reply.usage.prompt_tokens < len("Who won the world series in 2020?") / 2  # tokens, not characters


@pytest.mark.usefixtures("deployed")
def test_openais_list_names_all_that_is_served(platform: Running, client: openai.OpenAI, adapter_id: str) -> None:
    platform.await_embedding()
    names = {model.id for model in client.models.list()}
    assert {"Compressa-LLM", "Compressa-Embedding", adapter_id} <= names


@pytest.mark.usefixtures("deployed")
def test_an_unknown_model_is_a_404_that_says_what_is_served(client: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError, match="Compressa-LLM"):
        ask(client, "gpt-nothing", "Hello?")


def test_the_docs_are_one_document_and_load_nothing_from_elsewhere(platform: Running) -> None:
    document = platform.http.get("/api/openapi.json").json()
    for path in ("/api/v1/models/add/", "/api/v1/datasets/upload/", "/api/v1/chat/completions/", "/api/v1/deploy/"):
        assert path in document["paths"]
    page = platform.http.get("/api/docs/")
    assert page.status_code == 200
    assert "http://" not in page.text.replace("http://www.w3.org", "")
    assert "https://" not in page.text
