"""A model's large files, from the hub into the blobs of its cache layout.

They are brought first (`hearth_models.files`), become `blobs/<sha256>` once their hash is right, and there
`snapshot_download` finds them and only links them.
"""

import os
import re
from collections.abc import Sequence
from pathlib import Path

from hearth_contracts.models import ModelFile
from hearth_models.files import PARTIAL, bring_file
from huggingface_hub import hf_hub_url
from huggingface_hub.hf_api import RepoSibling
from huggingface_hub.utils._headers import build_hf_headers

BLOBS = "blobs"


def bring_large_files(model_id: str, revision: str, files: Sequence[RepoSibling], folder: Path) -> dict[str, str]:
    """Bring those of `files` that the hub keeps in LFS into `folder`/blobs. Gives their hashes by name.

    Raises Refused, and what the hub's client raises. One at a time, in the same order in every attempt, so that at
    most one of them is partial.
    """
    for name in (BLOBS, PARTIAL):
        (folder / name).mkdir(parents=True, exist_ok=True)
    for abandoned in (folder / BLOBS).glob("*.incomplete"):  # of an attempt that was killed; no process can resume it
        abandoned.unlink()
    found: dict[str, str] = {}
    for file in files:
        # The path below is made of what the hub sent: only a hash is taken for one.
        sha256 = file.lfs.sha256 if file.lfs else ""
        if file.size and re.fullmatch(r"[0-9a-f]{64}", sha256):
            wanted = ModelFile(name=file.rfilename, bytes=file.size, sha256=sha256)
            blob = folder / BLOBS / sha256
            if not blob.exists():
                url = hf_hub_url(model_id, wanted.name, revision=revision)
                os.replace(bring_file(url, wanted, folder / PARTIAL, build_hf_headers()), blob)
            found[wanted.name] = sha256
    return found
