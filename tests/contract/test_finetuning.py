"""OpenAI's fine-tuning, from a file to an answer of the model that was trained: all of it through OpenAI's client."""

import openai
import pytest
from openai.types.fine_tuning import FineTuningJob
from tenacity import Retrying, stop_after_delay, wait_fixed

from tests.conftest import CONVERSATIONS, Running

pytestmark = [pytest.mark.timeout(600), pytest.mark.usefixtures("deployed")]

# n_epochs and batch_size are OpenAI's; the others are Hearth's, since a model this tiny learns at no usual rate.
SETTINGS = {"n_epochs": 40, "batch_size": 8, "learning_rate": 1e-2, "lora_rank": 16, "lora_alpha": 32}


def await_end(client: openai.OpenAI, job: str) -> FineTuningJob:
    for attempt in Retrying(stop=stop_after_delay(300), wait=wait_fixed(0.5), reraise=True):
        with attempt:
            shown = client.fine_tuning.jobs.retrieve(job)
            assert shown.status in ("succeeded", "failed", "cancelled"), shown
    return shown


def test_a_file_is_trained_on_and_the_model_called(
    platform: Running, model_id: str, adapter_id: str, taught: list[tuple[str, str]]
) -> None:
    client = openai.OpenAI(base_url=f"{platform.url}/v1", api_key="unused", max_retries=0)
    with CONVERSATIONS.open("rb") as rows:
        file = client.files.create(file=rows, purpose="fine-tune")
    assert client.files.content(file.id).content == CONVERSATIONS.read_bytes()
    made = client.fine_tuning.jobs.create(
        model="Compressa-LLM",
        training_file=file.id,
        suffix="taught by openai",
        metadata={"for": "the test"},
        method={"type": "supervised", "supervised": {"hyperparameters": SETTINGS}},  # type: ignore[typeddict-item]
    )
    assert (made.model, made.status in ("queued", "validating_files")) == (model_id, True)
    done = await_end(client, made.id)
    assert done.status == "succeeded", done.error
    assert done.fine_tuned_model is not None
    for question, answer in taught[:3]:  # at once: a job that has succeeded has a model that answers
        for model in (done.fine_tuned_model, adapter_id):  # the one that was there still does
            reply = client.chat.completions.create(
                model=model, messages=[{"role": "user", "content": question}], max_tokens=40, temperature=0
            )
            assert str(reply.choices[0].message.content).strip() == answer
    steps = [event for event in client.fine_tuning.jobs.list_events(made.id, limit=100) if event.type == "metrics"]
    losses = [step.data["train_loss"] for step in reversed(steps)]  # type: ignore[index]
    assert len(losses) > 20
    assert losses[-1] < losses[0] / 10
    assert done.trained_tokens
    checkpoint = client.fine_tuning.jobs.checkpoints.list(made.id).data[0]
    assert checkpoint.fine_tuned_model_checkpoint == done.fine_tuned_model
    assert [job.id for job in client.fine_tuning.jobs.list(metadata={"for": "the test"})] == [made.id]
    assert client.files.delete(file.id).deleted


def test_a_job_is_cancelled(platform: Running, model_id: str, dataset_id: str) -> None:
    client = openai.OpenAI(base_url=f"{platform.url}/api/v1", api_key="unused", max_retries=0)
    made = client.fine_tuning.jobs.create(model=model_id, training_file=f"file-{dataset_id}")
    client.fine_tuning.jobs.cancel(made.id)
    assert await_end(client, made.id).status == "cancelled"
