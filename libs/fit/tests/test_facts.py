"""A model's size, read from its files and nothing else."""

import json
import struct
from pathlib import Path

import pytest
from hearth_fit.facts import Facts, FactsUnknown, facts_of, read_facts
from hearth_fit.safetensors import BadHeader, Tensor, read_file

pytestmark = pytest.mark.timeout(300)  # the tiny model is made with torch, whose import waits for busy disks
CONFIG = {"num_hidden_layers": 4, "num_attention_heads": 8, "hidden_size": 64, "vocab_size": 100}


def test_the_tiny_models_files_say_how_large_it_is(tiny: Path, facts: Facts) -> None:
    config = json.loads((tiny / "config.json").read_text())
    hidden, layers, inner = config["hidden_size"], config["num_hidden_layers"], config["intermediate_size"]
    assert (facts.layers, facts.hidden, facts.vocabulary) == (layers, hidden, config["vocab_size"])
    assert (facts.context, facts.full_layers) == (config["max_position_embeddings"], layers)
    kv = facts.kv_heads * facts.head_dim
    linear = layers * (2 * hidden * hidden + 2 * hidden * kv + 3 * hidden * inner)
    norms = (2 * layers + 1) * hidden
    assert facts.parameters == linear + norms + config["vocab_size"] * hidden
    assert len(facts.linear) == 7 * layers
    assert sum(tensor.elements for tensor in facts.linear) == linear
    header = 8 + struct.unpack("<Q", (tiny / "model.safetensors").read_bytes()[:8])[0]
    assert facts.weights_bytes == (tiny / "model.safetensors").stat().st_size - header


def test_a_multimodal_config_and_sliding_layers_are_understood() -> None:
    kinds = ["sliding_attention", "sliding_attention", "full_attention", "sliding_attention"]
    text = {**CONFIG, "layer_types": kinds, "sliding_window": 32, "max_position_embeddings": 4096, "head_dim": 16}
    facts = facts_of({"text_config": text, "architectures": ["Gemma3ForConditionalGeneration"]}, ())
    assert (facts.full_layers, facts.window, facts.context, facts.head_dim) == (1, 32, 4096, 16)


@pytest.mark.parametrize(
    "config", [{}, {**CONFIG, "hidden_size": None}, {**CONFIG, "num_attention_heads": 0}, {"text_config": "x"}]
)
def test_a_config_that_does_not_say_is_unknown(config: dict[str, object]) -> None:
    with pytest.raises(FactsUnknown, match="does not say how large"):
        facts_of(config, ())


def test_files_that_are_not_a_model_are_unknown(tmp_path: Path) -> None:
    with pytest.raises(FactsUnknown, match=r"config\.json cannot be read"):
        read_facts(tmp_path)
    (tmp_path / "config.json").write_text("[]")
    with pytest.raises(FactsUnknown, match="not an object"):
        read_facts(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps(CONFIG))
    with pytest.raises(FactsUnknown, match=r"no \*\.safetensors"):
        read_facts(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"weights")
    with pytest.raises(FactsUnknown, match=r"model\.safetensors cannot be read"):
        read_facts(tmp_path)


def write(path: Path, header: object, data: bytes = b"") -> Path:
    body = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(body)) + body + data)
    return path


def test_a_header_is_read_without_its_metadata(tmp_path: Path) -> None:
    entry = {"dtype": "BF16", "shape": [2, 3], "data_offsets": [0, 12]}
    path = write(tmp_path / "x", {"__metadata__": {"format": "pt"}, "a": entry}, bytes(12))
    assert read_file(path) == (Tensor("a", "BF16", (2, 3)),)


@pytest.mark.parametrize(
    ("header", "data"),
    [
        pytest.param(b"{", b"", id="no JSON"),
        pytest.param([1], b"", id="no object"),
        pytest.param({"a": {"dtype": "F32", "shape": [2]}}, b"", id="no offsets"),
        pytest.param({"a": {"dtype": "F33", "shape": [2], "data_offsets": [0, 8]}}, bytes(8), id="no such type"),
        pytest.param({"a": {"dtype": "F32", "shape": [3], "data_offsets": [0, 8]}}, bytes(8), id="shape too large"),
        pytest.param({"a": {"dtype": "F32", "shape": [-2, -1], "data_offsets": [0, 8]}}, bytes(8), id="negative"),
        pytest.param({"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}, bytes(7), id="cut off"),
        pytest.param({"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}, bytes(9), id="too long"),
    ],
)
def test_a_file_that_is_not_whole_is_refused(tmp_path: Path, header: object, data: bytes) -> None:
    with pytest.raises(BadHeader):
        read_file(write(tmp_path / "x", header, data))


@pytest.mark.parametrize("body", [b"", b"short", struct.pack("<Q", 2**62), struct.pack("<Q", 100) + b"{}"])
def test_a_file_without_a_whole_header_is_refused(tmp_path: Path, body: bytes) -> None:
    (tmp_path / "x").write_bytes(body)
    with pytest.raises(BadHeader):
        read_file(tmp_path / "x")
