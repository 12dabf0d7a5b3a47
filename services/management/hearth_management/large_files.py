"""Download a model's large files so that a download that was killed goes on where it ended.

huggingface_hub keeps what is whole, but it throws partial files away (their names are unique to a process). So each
large file is brought here first, into `partial/<sha256>` in the model's folder, and becomes `blobs/<sha256>` once its
hash is right: there `snapshot_download` finds it and only links it.
"""

import hashlib
import os
import re
from collections.abc import Sequence
from pathlib import Path

from huggingface_hub import hf_hub_url
from huggingface_hub.constants import MAX_HTTP_DOWNLOAD_SIZE
from huggingface_hub.file_download import http_get
from huggingface_hub.hf_api import RepoSibling
from huggingface_hub.utils._headers import build_hf_headers

from hearth_management.refusals import Refused

BLOBS = "blobs"
PARTIAL = "partial"


def bring_large_files(model_id: str, revision: str, files: Sequence[RepoSibling], folder: Path) -> None:
    """Bring those of `files` that the hub keeps in LFS into `folder`/blobs.

    Raises Refused, and what the hub's client raises. One at a time, in the same order in every attempt, so that at
    most one of them is partial.
    """
    for name in (BLOBS, PARTIAL):
        (folder / name).mkdir(parents=True, exist_ok=True)
    for abandoned in (folder / BLOBS).glob("*.incomplete"):  # of an attempt that was killed; no process can resume it
        abandoned.unlink()
    for file in files:
        # The path below is made of what the hub sent: only a hash is taken for one. Above 50 GB the hub serves no
        # plain HTTP; its client then says what to install.
        sha256 = file.lfs.sha256 if file.lfs else ""
        is_ours = file.size and file.size <= MAX_HTTP_DOWNLOAD_SIZE and re.fullmatch(r"[0-9a-f]{64}", sha256)
        if is_ours and not (folder / BLOBS / sha256).exists():
            url = hf_hub_url(model_id, file.rfilename, revision=revision)
            _bring(url, file.rfilename, file.size or 0, sha256, folder)


def _bring(url: str, name: str, size: int, sha256: str, folder: Path) -> None:
    partial = folder / PARTIAL / sha256
    if partial.exists() and partial.stat().st_size > size:
        partial.unlink()
    with partial.open("ab", buffering=0) as file:
        # Its sleep and retries are the client's; headers carry HF_TOKEN, which a redirect to another host drops.
        http_get(url, file, resume_size=file.tell(), expected_size=size, headers=build_hf_headers())
        os.fsync(file.fileno())
    with partial.open("rb") as whole:
        found = hashlib.file_digest(whole, "sha256").hexdigest()
    if found != sha256:
        partial.unlink()
        raise Refused(
            f"{name} came with SHA-256 {found}, but the hub states {sha256}: what came is thrown away. Add the model "
            "again; if that does not help, the disk, a proxy, or the mirror in HF_ENDPOINT damages it"
        )
    os.replace(partial, folder / BLOBS / sha256)
