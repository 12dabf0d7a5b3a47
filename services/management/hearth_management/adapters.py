"""Adapters, looked at before they are deployed: what is wrong with one is told before any engine is touched."""

from dataclasses import dataclass

from hearth_contracts.adapters import AdapterManifest
from hearth_contracts.errors import HearthError, Invalid, NotFound
from hearth_contracts.names import is_adapter_id
from hearth_fit.facts import Facts
from hearth_fit.safetensors import BadHeader, Tensor, read_header
from hearth_storage.adapters import adapter_prefix, read_manifest
from hearth_storage.objects import ARTIFACTS, object_size, read_part
from minio import Minio

WEIGHTS = "adapter_model.safetensors"
_PEFT_PREFIX = "base_model.model."


@dataclass(frozen=True)
class Base:
    """What an adapter must fit."""

    model_id: str
    rank_limit: int
    facts: Facts | None  # None: its files do not say, and shapes are left to the engine


def check_adapter(s3: Minio, adapter_id: str, base: Base) -> None:
    """Raise NotFound or Invalid unless the adapter is whole, of this base, and of its shapes."""
    manifest = read_manifest(s3, adapter_id) if is_adapter_id(adapter_id) else None
    if manifest is None:
        raise NotFound(f"there is no adapter {adapter_id!r}; GET /v1/models/ lists what there is")
    if manifest.base_model_id != base.model_id:
        raise Invalid(
            f"adapter {adapter_id!r} was trained on {manifest.base_model_id!r}; it does not fit {base.model_id!r}"
        )
    if manifest.rank > base.rank_limit:
        raise Invalid(f"adapter {adapter_id!r} has rank {manifest.rank}; at most {base.rank_limit} can be deployed")
    _check_files(s3, manifest)
    tensors = _tensors(s3, manifest)
    if fault := misfit(tensors, manifest.rank, base.facts):
        raise Invalid(f"adapter {adapter_id!r} does not fit {base.model_id!r}: {fault}")


def _check_files(s3: Minio, manifest: AdapterManifest) -> None:
    prefix = adapter_prefix(manifest.adapter_id)
    for file in manifest.files:
        size = object_size(s3, ARTIFACTS, f"{prefix}/{file.name}")
        if size is None:
            raise _corrupt(manifest, f"{file.name} is missing in S3")
        if size != file.bytes:
            raise _corrupt(manifest, f"{file.name} has {size} bytes in S3, and its manifest says {file.bytes}")


def _tensors(s3: Minio, manifest: AdapterManifest) -> tuple[Tensor, ...]:
    size = next((file.bytes for file in manifest.files if file.name == WEIGHTS), None)
    if size is None:
        raise _corrupt(manifest, f"it has no {WEIGHTS}")
    key = f"{adapter_prefix(manifest.adapter_id)}/{WEIGHTS}"
    try:
        return read_header(lambda offset, length: read_part(s3, ARTIFACTS, key, offset, length), size)
    except BadHeader as fault:
        raise _corrupt(manifest, f"{WEIGHTS}: {fault}") from fault


def _corrupt(manifest: AdapterManifest, fault: str) -> HearthError:
    return Invalid(f"adapter {manifest.adapter_id!r} is corrupt: {fault}. Train it again, or restore the object in S3")


def misfit(tensors: tuple[Tensor, ...], rank: int, facts: Facts | None) -> str:
    """Why these tensors are no LoRA adapter of this rank for a base of these shapes, or ''.

    PEFT names them `base_model.model.<layer>.lora_A.weight`, of rank x in, and `...lora_B.weight`, of out x rank.
    """
    layers = {tensor.name: tensor.shape for tensor in facts.tensors} if facts and not facts.quantized else {}
    for tensor in tensors:
        layer, _, half = tensor.name.removeprefix(_PEFT_PREFIX).rpartition(".lora_")
        if half not in ("A.weight", "B.weight") or len(tensor.shape) != 2:
            return f"{tensor.name} is no LoRA weight that the engine takes (DoRA and embeddings are not served)"
        ranks, side = (0, 1) if half == "A.weight" else (1, 0)
        if tensor.shape[ranks] != rank:
            return f"{tensor.name} has rank {tensor.shape[ranks]}, and its manifest says {rank}"
        shape = layers.get(f"{layer}.weight")
        if shape is not None and shape[1 - ranks] != tensor.shape[side]:
            return (
                f"{tensor.name} is for a layer of {tensor.shape[side]} numbers, and the base's has {shape[1 - ranks]}"
            )
    return "" if tensors else "it holds no weights"
