"""`make bench-data`: what the dataset service needs and how fast it is, beside the bare `minio` SDK.

    python -m tests.bench.data [--size GIB] [--rounds N] [--datasets N] [--folder PATH]

Everything runs for real on loopback, each upload against a fresh S3 server on the same disk, bare and served in turn.
"""

import json
import os
import shutil
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Annotated, Any

import httpx
import typer
from hearth_contracts.names import new_id
from hearth_dataset.contents import Use
from hearth_storage.datasets import metadata_key
from hearth_storage.log import name_at
from hearth_storage.objects import DATASETS, connect, ensure_bucket, write_object
from rich.console import Console
from rich.table import Table

from tests.bench.data.files import make_file, send
from tests.bench.data.servers import Platform, platform

MIB = 2**20
AT_ONCE = 10
SETTLED_SECONDS = 3600.0
"""How long ago, by the log, what is listed was made; what is younger than 20 minutes is read again by each list."""


def main(
    size: Annotated[float, typer.Option(help="the large file, GiB")] = 5.0,
    rounds: int = 2,
    datasets: Annotated[int, typer.Option(help="that are listed while files come and go")] = 10_000,
    folder: Annotated[Path | None, typer.Option(help="scratch space: twice the file's size")] = None,
) -> None:
    """Measure and print the tables."""
    scratch = Path(tempfile.mkdtemp(prefix="bench-data-", dir=folder))
    try:
        _report(scratch, int(size * 2**30), rounds, datasets)
    finally:
        shutil.rmtree(scratch)


def _report(scratch: Path, size: int, rounds: int, datasets: int) -> None:
    out = Console(width=110)
    file = scratch / "big.jsonl"
    size = make_file(file, size)
    table = Table(title=f"One file of {size / 2**30:.2f} GiB ({os.cpu_count()} cores, load {os.getloadavg()[0]:.0f})")
    table.add_column("S3 and the rest")
    for title in ("bare SDK, MiB/s", "service, MiB/s", "ratio", "through the gateway, MiB/s", "service's peak MiB"):
        table.add_column(title, justify="right")
    for apart in (False, True):
        figures = [_one_file(scratch, file, size, apart) for _ in range(rounds)]
        bare, served, door, peak = (statistics.median(each) for each in zip(*figures, strict=True))
        shown = [f"{bare:.0f}", f"{served:.0f}", f"{served / bare:.2f}", f"{door:.0f}", f"{peak:.0f}"]
        table.add_row("a core each" if apart else "share the cores", *shown)
    out.print(table)
    file.unlink()
    out.print(_fresh(scratch, lambda each: (_listing(each, scratch, datasets), 0.0))[0])


def _one_file(scratch: Path, file: Path, size: int, apart: bool) -> tuple[float, float, float, float]:
    """MiB/s of the SDK, of the service and through the gateway; the service's peak of memory, MiB."""
    bare, _ = _fresh(scratch, lambda each: _bare(each, file), apart)
    served, peak = _fresh(scratch, lambda each: _served(each, each.dataset_port, "/v1/datasets/upload", file), apart)
    door, _ = _fresh(scratch, lambda each: _served(each, each.gateway_port, "/api/v1/datasets/upload", file), apart)
    print(f"{bare:.0f} s bare, {served:.0f} s served, {door:.0f} s through the gateway", file=sys.stderr)
    return size / MIB / bare, size / MIB / served, size / MIB / door, peak


def _fresh(scratch: Path, measure: Callable[[Platform], tuple[Any, float]], apart: bool = False) -> tuple[Any, float]:
    """Measure on a platform that has done nothing yet, and leave the disk as it was."""
    folder = scratch / "platform"
    folder.mkdir()
    try:
        with platform(folder, apart=apart) as running:
            ensure_bucket(connect(running.s3), DATASETS)
            return measure(running)
    finally:
        shutil.rmtree(folder)
        os.sync()  # or the next one pays for what this one wrote


def _bare(running: Platform, file: Path) -> tuple[float, float]:
    """Seconds the SDK takes with its own settings; it hashes and signs each part, three at once."""
    client = connect(running.s3)
    began = time.monotonic()
    with file.open("rb") as source:
        client.put_object(bucket_name=DATASETS, object_name="bare", data=source, length=file.stat().st_size)
    return time.monotonic() - began, 0.0


def _served(running: Platform, port: int, path: str, file: Path) -> tuple[float, float]:
    """Seconds until the dataset is acknowledged, and the service's peak memory."""
    began = time.monotonic()
    reply = send(port, path, file)
    seconds = time.monotonic() - began
    assert reply.status == 200, reply.body[:500]
    assert json.loads(reply.body)["bytes"] == file.stat().st_size
    return seconds, running.dataset_peak_mib()


def _listing(running: Platform, scratch: Path, datasets: int) -> Table:
    """How long the list takes alone, and while ten files come and ten go."""
    _seed(running, datasets)
    size = 200 * MIB
    file = scratch / "one-of-ten.jsonl"
    make_file(file, size)
    url = f"http://127.0.0.1:{running.dataset_port}/v1/datasets"
    with httpx.Client(base_url=url, timeout=600) as client:
        first = _timed(lambda: client.get(""))
        made = json.loads(send(running.dataset_port, "/v1/datasets/upload", file).body)
        alone = [_timed(lambda: client.get("")) for _ in range(20)]
        probe = [_timed(lambda: client.get(f"/{made['id']}/metadata")) for _ in range(50)]
        done = threading.Event()
        began = time.monotonic()
        with ThreadPoolExecutor(2 * AT_ONCE) as pool:
            ups = [pool.submit(send, running.dataset_port, "/v1/datasets/upload", file) for _ in range(AT_ONCE)]
            downs = [pool.submit(_fetch, f"{url}/{made['id']}") for _ in range(AT_ONCE)]
            threading.Thread(target=lambda: ([each.result() for each in ups + downs], done.set())).start()
            loaded, probe_loaded = [], []
            while not done.is_set():
                loaded.append(_timed(lambda: client.get("")))
                probe_loaded.append(_timed(lambda: client.get(f"/{made['id']}/metadata")))
        seconds = time.monotonic() - began
        for each in ups:
            assert each.result().status == 200, each.result().body[:500]
    moved = 2 * AT_ONCE * file.stat().st_size / MIB / seconds
    table = Table(
        title=f"{datasets} datasets; {AT_ONCE} uploads and {AT_ONCE} downloads of 200 MiB at once, {moved:.0f} MiB/s"
    )
    for title in ("request", "median ms", "p95 ms", "median ms, loaded", "p95 ms, loaded"):
        table.add_column(title, justify="right")
    table.add_row("list, first after start", f"{first * 1000:.0f}", "", "", "")
    table.add_row("list", *_ms(alone), *_ms(loaded))
    table.add_row("one dataset's metadata", *_ms(probe), *_ms(probe_loaded))
    file.unlink()
    table.caption = f"service's peak: {running.dataset_peak_mib():.0f} MiB"
    return table


def _seed(running: Platform, datasets: int) -> None:
    """Records as the service writes them, without rows."""
    client = connect(running.s3)

    def put(_: int) -> None:
        dataset_id = new_id()
        record = {
            "id": dataset_id, "name": "seed.jsonl", "s3_path": metadata_key(dataset_id), "description": "seeded",
            "format": "messages", "rows": 1, "turns": 2, "bytes": 100, "sha256": dataset_id, "duplicates": 0,
            "created_at": "2026-01-01T00:00:00.000000",
        }  # fmt: skip
        write_object(client, DATASETS, Use(dataset_id, dataset_id, dataset_id).key)
        write_object(client, DATASETS, f"{name_at(time.time() - SETTLED_SECONDS)}.{dataset_id}")
        write_object(client, DATASETS, metadata_key(dataset_id), json.dumps(record).encode())

    with ThreadPoolExecutor(16) as pool:
        list(pool.map(put, range(datasets)))


def _fetch(url: str) -> None:
    with httpx.stream("GET", url, timeout=600) as reply:
        for _ in reply.iter_raw():
            pass


def _timed(call: Callable[[], httpx.Response]) -> float:
    began = time.monotonic()
    call().raise_for_status()
    return time.monotonic() - began


def _ms(seconds: list[float]) -> tuple[str, str]:
    ordered = sorted(seconds)
    return f"{statistics.median(ordered) * 1000:.0f}", f"{ordered[int(len(ordered) * 0.95)] * 1000:.0f}"


if __name__ == "__main__":
    typer.run(main)
