"""Datasets through the real dataset service, on a network that breaks when told to."""

import gzip
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import uvicorn
from hearth_client import Hearth, Invalid, NotFound, NotReached, Progress
from hearth_client.datasets import PART_BYTES
from hearth_dataset.app import dataset_app
from hearth_dataset.config import DatasetSettings
from hearth_storage.objects import DATASETS
from minio import Minio
from redis import Redis
from starlette.applications import Starlette
from starlette.routing import Mount
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tests.support.servers import free_port, running

ROWS = [{"text": f"row {number} " + "x" * 10_000} for number in range(1_000)]


@dataclass
class Network:
    """What lies between client and service: cuts a reply after so many bytes, or a request after so many parts."""

    app: ASGIApp
    cut_replies_after: list[int] = field(default_factory=list)  # one for each reply with a body, as they come
    parts_let_through: int | None = None
    asked: list[tuple[str, str]] = field(default_factory=list)  # method, path

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        method, path = scope["method"], scope["path"]
        self.asked.append((method, path))
        if method == "PUT" and self.parts_let_through is not None:
            if self.parts_let_through == 0:
                await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"9")]})
                raise ConnectionError("the network is down")
            self.parts_let_through -= 1
        downloads = method == "GET" and path.count("/") == 5 and "uploads" not in path
        left = self.cut_replies_after.pop(0) if downloads and self.cut_replies_after else None

        async def cutting(message: Message) -> None:
            nonlocal left
            if left is not None and message["type"] == "http.response.body":
                piece = message.get("body", b"")[:left]
                left -= len(piece)
                await send({"type": "http.response.body", "body": piece, "more_body": True})
                if not left:
                    raise ConnectionError("cut, as the test asked")
            else:
                await send(message)

        await self.app(scope, receive, cutting)


@pytest.fixture
def network(s3: Minio, redis: Redis) -> Network:
    return Network(Starlette(routes=[Mount("/api", dataset_app(s3, redis, DatasetSettings()))]))


@pytest.fixture
def hearth(network: Network) -> Iterator[Hearth]:
    port = free_port()
    with running(uvicorn.Config(network, port=port, lifespan="off", log_config=None)):
        with Hearth(f"http://127.0.0.1:{port}", patience=5) as client:
            yield client


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A little larger than one part."""
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    assert PART_BYTES < path.stat().st_size < 2 * PART_BYTES
    return path


def test_a_file_goes_up_in_parts_with_progress_and_comes_back_the_same(
    hearth: Hearth, file: Path, tmp_path: Path
) -> None:
    seen: list[Progress] = []
    made = hearth.datasets.upload(file, "mine", progress=seen.append)
    assert (made.name, made.description, made.rows) == ("rows.jsonl", "mine", len(ROWS))
    assert [progress.done for progress in seen] == [0, PART_BYTES, made.bytes, made.bytes]
    assert hearth.datasets.list() == [made] == [hearth.datasets.get(made.id)]
    back = hearth.datasets.download(made.id, tmp_path / "back.jsonl")
    assert back.read_bytes() == file.read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["back.jsonl", "rows.jsonl"]
    page = hearth.datasets.preview(made.id, limit=2)
    assert [row.line for row in page.rows] == [1, 2]
    assert [row.line for row in hearth.datasets.preview(made.id, 2, page.next).rows] == [3, 4]
    hearth.datasets.delete(made.id)
    with pytest.raises(NotFound):
        hearth.datasets.get(made.id)


def test_a_packed_file_goes_as_it_is(hearth: Hearth, file: Path) -> None:
    packed = file.with_name("rows.jsonl.gz")
    packed.write_bytes(gzip.compress(file.read_bytes()))
    assert hearth.datasets.upload(packed).rows == len(ROWS)


def test_a_broken_download_goes_on_where_it_broke(hearth: Hearth, network: Network, file: Path, tmp_path: Path) -> None:
    made = hearth.datasets.upload(file)
    network.cut_replies_after = [1_000_000, 2_000_000]
    seen: list[Progress] = []
    back = hearth.datasets.download(made.id, tmp_path / "back.jsonl", progress=seen.append)
    assert back.read_bytes() == file.read_bytes()
    done = [progress.done for progress in seen]
    assert done == sorted(done)
    assert {1_000_000, 3_000_000} <= set(done)


def test_an_upload_that_ended_early_goes_on_with_what_is_missing(
    hearth: Hearth, network: Network, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hearth_client.datasets.LONG_PATIENCE", 0.5)
    network.parts_let_through = 1
    seen: list[Progress] = []
    with pytest.raises(NotReached):
        hearth.datasets.upload(file, progress=seen.append)
    network.parts_let_through = None
    network.asked.clear()
    made = hearth.datasets.upload(file, resume_id=seen[-1].resume_id)
    assert made.rows == len(ROWS)
    assert len([path for method, path in network.asked if method == "PUT"]) == 1


def test_a_bad_line_is_named_and_nothing_of_the_file_is_kept(hearth: Hearth, file: Path, s3: Minio) -> None:
    file.write_text(file.read_text() + "no json\n")
    with pytest.raises(Invalid, match=f"line {len(ROWS) + 1}") as caught:
        hearth.datasets.upload(file)
    assert caught.value.faults[0].loc[:2] == ["line", len(ROWS) + 1]
    left = [str(entry.object_name) for entry in s3.list_objects(bucket_name=DATASETS, recursive=True)]
    assert [name for name in left if not name.startswith("catalogue/")] == []  # the log may have begun


def test_the_id_of_an_upload_that_is_not_there_is_told(hearth: Hearth, file: Path) -> None:
    with pytest.raises(NotFound, match="no upload"):
        hearth.datasets.upload(file, resume_id="01be6d68-f790-434b-aa6d-5bd492aef202")
