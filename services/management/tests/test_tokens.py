"""Tokens on demand: counted by the model's own tokenizer, in a process of its own."""

import json
from collections.abc import Callable
from io import BytesIO
from typing import Any

import pytest
from fastapi.testclient import TestClient
from hearth_contracts.base import now
from hearth_contracts.datasets import Dataset, DatasetFormat
from hearth_contracts.names import new_id
from hearth_management import tokens
from hearth_storage.config import HomeSettings
from hearth_storage.datasets import metadata_key, rows_key
from hearth_storage.model_store import model_folder
from hearth_storage.objects import DATASETS
from minio import Minio
from tokenizers import Tokenizer, models, pre_tokenizers

from services.management.tests.conftest import answered, refused

BASE = "acme/llm"
ROWS = [
    {"messages": [{"role": "user", "content": "a b"}, {"role": "assistant", "content": "c d e"}]},
    {"messages": [{"role": "user", "content": [{"type": "text", "text": "a"}]}, {"role": "assistant", "content": "b"}]},
]


@pytest.fixture
def model(put_model: Callable[..., None], home: HomeSettings) -> None:
    """A base model whose tokenizer counts words."""
    put_model(BASE)
    tokenizer = Tokenizer(models.WordLevel({"?": 0}, unk_token="?"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.enable_truncation(4)  # as tokenizers of real models sometimes come
    tokenizer.save(str(model_folder(home.models, BASE) / "snapshots" / "abc" / "tokenizer.json"))


def put_rows(s3: Minio, rows: list[dict[str, Any]], data_format: DatasetFormat = DatasetFormat.MESSAGES) -> str:
    """A dataset of these rows; its id."""
    dataset_id = new_id()
    body = b"".join(json.dumps(row).encode() + b"\n" for row in rows)
    dataset = Dataset(
        id=dataset_id, name="a.jsonl", s3_path=metadata_key(dataset_id), description=None, format=data_format,
        rows=len(rows), turns=0, bytes=len(body), sha256="0", created_at=now(),
    )  # fmt: skip
    for key, content in (
        (rows_key(dataset_id), body),
        (metadata_key(dataset_id), dataset.model_dump_json().encode()),
    ):
        s3.put_object(bucket_name=DATASETS, object_name=key, data=BytesIO(content), length=len(content))
    return dataset_id


def ask(client: TestClient, dataset_id: str, model_id: str = BASE) -> Any:
    return client.get("/v1/finetune/tokens", params={"model_id": model_id, "dataset_id": dataset_id})


@pytest.mark.usefixtures("model")
def test_all_that_the_rows_say_is_counted_by_the_models_tokenizer(client: TestClient, s3: Minio) -> None:
    dataset_id = put_rows(s3, ROWS)
    assert answered(ask(client, dataset_id)) == {
        "model_id": BASE, "dataset_id": dataset_id, "rows": 2, "tokens": 7, "longest_row": 5, "exact": True
    }  # fmt: skip


@pytest.mark.usefixtures("model")
def test_of_a_pair_the_prompt_counts_once(client: TestClient, s3: Minio) -> None:
    pair = {"prompt": "a b", "chosen": "c d e", "rejected": "f"}
    assert answered(ask(client, put_rows(s3, [pair], DatasetFormat.PREFERENCE)))["tokens"] == 6


@pytest.mark.usefixtures("model")
def test_of_a_large_dataset_a_fair_sample_is_counted(
    client: TestClient, s3: Minio, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tokens, "WHOLE_BYTES", 64 * 1024)
    # Rows of the second half have twice the words, so that the beginning alone would tell too little.
    rows = [{"text": " ".join(["word"] * (10 if number < 5000 else 20))} for number in range(10_000)]
    found = answered(ask(client, put_rows(s3, rows, DatasetFormat.TEXT)))
    assert found["tokens"] == pytest.approx(150_000, rel=0.05)
    assert (found["exact"], found["rows"], found["longest_row"]) == (False, 10_000, 20)


@pytest.mark.usefixtures("model")
def test_what_is_not_there_is_named(client: TestClient, s3: Minio) -> None:
    missing = new_id()
    refused(ask(client, missing), 404, missing)
    refused(ask(client, "../x"), 404, "../x")
    refused(ask(client, put_rows(s3, ROWS), "acme/nothing"), 404, "acme/nothing")


def test_a_model_without_a_tokenizer_or_with_a_broken_one_is_refused(
    client: TestClient, s3: Minio, put_model: Callable[..., None], home: HomeSettings
) -> None:
    put_model(BASE)
    dataset_id = put_rows(s3, ROWS)
    refused(ask(client, dataset_id), 422, BASE, "has no tokenizer.json")
    (model_folder(home.models, BASE) / "snapshots" / "abc" / "tokenizer.json").write_text('{"version": "1.0"}')
    refused(ask(client, dataset_id), 422, f"the tokenizer.json of {BASE} cannot be used: ")
