"""What the hub says of a model, before anything of it is downloaded.

A model's id has been checked (`is_model_id`) before it becomes part of an address, so it cannot lead elsewhere.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hearth_contracts.errors import Invalid
from hearth_contracts.models import HubModel
from hearth_models.files import PARTIAL, bytes_of
from hearth_models.refusals import Refused, hub_errors
from hearth_storage.model_store import model_folder
from huggingface_hub import (
    HfApi,
    constants,
    get_hf_file_metadata,
    get_session,
    get_token,
    hf_hub_url,
    hf_raise_for_status,
)
from huggingface_hub.hf_api import ModelInfo, RepoSibling

from hearth_management.large_files import BLOBS

WANTED = (
    "*.safetensors", "*.safetensors.index.json", "*.json", "*.jinja", "*.model", "*.txt",
    "LICENSE*", "NOTICE*", "USE_POLICY*", "README.md",
)  # fmt: skip
"""What is downloaded. Never pickled weights (*.bin, *.pt) or Python files: loading those runs code."""


@dataclass(frozen=True)
class Listing:
    """A model on the hub."""

    model_id: str
    info: ModelInfo
    files: tuple[RepoSibling, ...]  # those that are downloaded

    @property
    def revision(self) -> str:
        """The commit that is downloaded."""
        assert self.info.sha is not None
        return self.info.sha

    @property
    def bytes(self) -> int:
        """All of them together."""
        return sum(file.size or 0 for file in self.files)

    @property
    def license(self) -> str | None:
        """As its card states it."""
        card = self.info.card_data
        if card is None or card.license is None:
            return None
        if card.license == "other" and card.get("license_name"):
            return str(card.get("license_name"))
        return card.license if isinstance(card.license, str) else ", ".join(card.license)


def look_up(model_id: str, timeout: float | None = None) -> Listing:
    """Ask the hub, waiting at most `timeout` seconds for each answer. Raises Refused."""
    with hub_errors(model_id):
        info = HfApi().model_info(model_id, files_metadata=True, timeout=timeout)
        files = tuple(file for file in info.siblings or [] if is_wanted(file.rfilename))
        weights = [file for file in files if file.rfilename.endswith(".safetensors")]
        if not weights:
            raise Refused(
                f"{model_id} has no *.safetensors weights; other formats can run code when they are loaded, "
                "so they are not taken. Look for a conversion to safetensors on the hub",
                Invalid,
            )
        if info.gated:  # its card is public all the same: only a file tells whether it is open to us
            get_hf_file_metadata(hf_hub_url(model_id, weights[0].rfilename, revision=info.sha), timeout=timeout)
    return Listing(model_id, info, files)


def search(text: str, limit: int, timeout: float) -> list[HubModel]:
    """The most downloaded models with safetensors weights whose names have these words. Raises Refused.

    Not by `HfApi.list_models`: that waits for a silent hub without end, and tries again.
    """
    query: dict[str, str | int] = {"search": text, "filter": "safetensors", "sort": "downloads", "limit": limit}
    token = get_token()
    headers = {"authorization": f"Bearer {token}"} if token else None  # private models are then found too
    with hub_errors(f"models named {text!r}"):
        reply = get_session().get(f"{constants.ENDPOINT}/api/models", params=query, headers=headers, timeout=timeout)
        hf_raise_for_status(reply)
        return [_found(entry) for entry in reply.json()]


def _found(entry: dict[str, Any]) -> HubModel:
    licences = [tag.removeprefix("license:") for tag in entry.get("tags", []) if tag.startswith("license:")]
    return HubModel(
        model_id=entry["id"],
        downloads=entry.get("downloads"),
        license=", ".join(licences) or None,
        gated=bool(entry.get("gated")),
    )


def is_wanted(name: str) -> bool:
    """Whether a file of this name is taken."""
    return any(Path(name).match(pattern) for pattern in WANTED)


def brought(store: Path, model_id: str) -> int:
    """Bytes that earlier attempts at a download left, to go on with."""
    folder = model_folder(store, model_id)
    return bytes_of((folder / BLOBS).glob("*")) + bytes_of((folder / PARTIAL).glob("*"))
