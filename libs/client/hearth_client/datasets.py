"""Datasets: list, look into, upload in parts, download, delete."""

from pathlib import Path

from hearth_contracts.datasets import Dataset
from hearth_contracts.preview import Preview
from hearth_contracts.uploads import NewUpload, Upload, UploadPart

from hearth_client.binding import Async, Sync, operation
from hearth_client.errors import Conflict, HearthClientError, Invalid, NotReached, TooLarge
from hearth_client.handles import pauses
from hearth_client.progress import OnProgress, Progress, Shown, telling
from hearth_client.request import Request, Steps, ask, delete, get, nothing, post, reading
from hearth_client.sender import LONG_PATIENCE

PART_BYTES = 8 * 2**20
"""What a broken connection costs to send again at most. With 10,000 parts at most, files may have 78 GiB."""

COMPLETE_SECONDS = 1800.0
"""Silence while the platform checks a whole file."""


class DatasetCalls:
    """Rows to learn from."""

    @operation
    def list(self) -> Request[list[Dataset]]:
        """All of them; with a user's key, those that came with it."""
        return get("/datasets/", list[Dataset])

    @operation
    def get(self, dataset_id: str) -> Request[Dataset]:
        """What is known of one."""
        return _metadata(dataset_id)

    @operation
    def preview(self, dataset_id: str, limit: int = 10, cursor: str | None = None) -> Request[Preview]:
        """Some rows as they are understood; `next` of the reply is the cursor of the next page."""
        return get(f"/datasets/{dataset_id}/preview/", Preview, limit=limit, cursor=cursor)

    @operation
    def delete(self, dataset_id: str) -> Request[None]:
        """Remove one. Raises Conflict while a fine-tune needs it."""
        return delete(f"/datasets/{dataset_id}/")

    @operation
    def upload(
        self, file: Path | str, description: str | None = None, progress: Shown = False, resume_id: str | None = None
    ) -> Steps[Dataset]:
        """A file of one row a line, plain or as gzip, zstd or Parquet, in parts: what arrived is not sent again.

        With `resume_id`, which each progress carries, an upload of the same file that ended early goes on. Raises
        Invalid with a fault for each bad line; nothing of the file is kept then.
        """
        path = Path(file)
        size = path.stat().st_size
        with telling(progress) as tell:
            upload = yield from ask(_upload(resume_id) if resume_id else _begin(path.name, description))
            yield from _send_parts(path, size, upload, tell)
            tell(Progress(size, size, f"{path.name}: being checked", resume_id=upload.id))
            return (yield from _completed(upload.id, _parts(size)))

    @operation
    def download(self, dataset_id: str, file: Path | str, progress: Shown = False) -> Steps[Path]:
        """The rows as JSON lines into a file, which is there once it is whole; a broken download goes on."""
        path = Path(file)
        size = (yield from ask(_metadata(dataset_id))).bytes
        scratch = path.with_name(f".{path.name}.{dataset_id}.part")
        with telling(progress) as tell, scratch.open("ab") as out:

            def take(piece: bytes, status: int) -> None:
                if status == 200 and out.tell() and not begun:
                    out.truncate(0)  # the whole comes anew
                begun.append(len(piece))
                out.write(piece)
                tell(Progress(out.tell(), size, path.name))

            while out.tell() < size:
                begun: list[int] = []
                headers = {"Range": f"bytes={out.tell()}-"} if out.tell() else {}
                try:
                    yield Request("GET", f"/datasets/{dataset_id}/", nothing, headers=headers, sink=take)
                except NotReached:
                    if not begun:
                        raise
        scratch.replace(path)
        return path


class Datasets(DatasetCalls, Sync):
    """Rows to learn from."""


class AsyncDatasets(DatasetCalls, Async):
    """The same, awaited."""


def _metadata(dataset_id: str) -> Request[Dataset]:
    return get(f"/datasets/{dataset_id}/metadata/", Dataset)


def _begin(name: str, description: str | None) -> Request[Upload]:
    # Asked twice it leaves an empty upload behind, which the platform removes by itself.
    return post("/datasets/uploads/", Upload, NewUpload(name=name, description=description), repeatable=True)


def _upload(upload_id: str) -> Request[Upload]:
    return get(f"/datasets/uploads/{upload_id}/", Upload)


def _parts(size: int) -> int:
    return max(1, -(-size // PART_BYTES))


def _send_parts(path: Path, size: int, upload: Upload, tell: OnProgress) -> Steps[None]:
    """Each part that has not arrived yet."""
    arrived = {part.number: part.bytes for part in upload.parts}
    sent = 0
    tell(Progress(sent, size, path.name, resume_id=upload.id))
    with path.open("rb") as file:
        for number in range(1, _parts(size) + 1):
            part = file.read(PART_BYTES)
            if arrived.get(number) != len(part):
                where = f"/datasets/uploads/{upload.id}/parts/{number}/"
                yield Request("PUT", where, reading(UploadPart), content=part, repeatable=True, patience=LONG_PATIENCE)
            sent += len(part)
            tell(Progress(sent, size, path.name, resume_id=upload.id))


def _completed(upload_id: str, count: int) -> Steps[Dataset]:
    """The dataset, once the platform has checked it; also when the connection breaks while it does."""
    complete: Request[Dataset] = Request(
        "POST", f"/datasets/uploads/{upload_id}/complete/", reading(Dataset), json={"parts": count}, repeatable=True,
        patience=LONG_PATIENCE, read_seconds=COMPLETE_SECONDS,
    )  # fmt: skip
    for pause in pauses():
        try:
            return (yield from ask(complete))
        except Conflict:  # parts are missing; or a connection broke, and the first asking is still at work
            upload = yield from ask(_upload(upload_id))
            if upload.dataset_id is None and len(upload.parts) != count:
                raise
        except (Invalid, TooLarge):
            yield from _given_up(upload_id)
            raise
        yield pause
    raise AssertionError("the pauses have no end")


def _given_up(upload_id: str) -> Steps[None]:
    """The parts of a refused file go; if that fails, the platform removes them after a week."""
    try:
        yield delete(f"/datasets/uploads/{upload_id}/")
    except HearthClientError:
        return
