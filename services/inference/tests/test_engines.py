"""What is told to the engines, and what is understood of their words."""

from pathlib import Path

import httpx
import pytest
from hearth_contracts.deploy import DeploymentSpec, Engine
from hearth_contracts.names import new_id
from hearth_inference.config import InferenceSettings
from hearth_inference.engines import driver_for
from hearth_inference.engines.base import EngineRefused, checked, last_words
from hearth_inference.engines.vllm import VllmDriver, context_length
from hearth_inference.memory import available_bytes

GIB = 1024**3
SPEC = DeploymentSpec(
    name="default", engine=Engine.VLLM, model_id="a/b", served_name="LLM", job_id=new_id(), generation=1
)


def settings(**more: object) -> InferenceSettings:
    return InferenceSettings.model_validate({"engine_python": Path("/envs/x/bin/python"), **more})


@pytest.fixture
def model(tmp_path: Path) -> Path:
    (tmp_path / "config.json").write_text('{"max_position_embeddings": 1024}')
    (tmp_path / "model.safetensors").write_bytes(b"0" * 1000)
    return tmp_path


@pytest.mark.parametrize(("limit", "expected"), [(4096, "1024"), (512, "512")])
def test_the_context_is_the_shorter_of_models_and_settings(model: Path, limit: int, expected: str) -> None:
    command = VllmDriver(settings(max_model_len=limit)).command(SPEC, model, 1234)
    assert command[command.index("--max-model-len") + 1] == expected


def test_a_multimodal_config_holds_its_context_deeper(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"text_config": {"max_position_embeddings": 32}}')
    assert context_length(tmp_path) == 32


def test_tools_are_off_unless_a_parser_is_named(model: Path) -> None:
    assert "--enable-auto-tool-choice" not in VllmDriver(settings()).command(SPEC, model, 1)
    assert VllmDriver(settings(tool_call_parser="hermes")).command(SPEC, model, 1)[-2:] == [
        "--tool-call-parser",
        "hermes",
    ]


@pytest.mark.parametrize("engine", list(Engine))
def test_no_secret_of_ours_reaches_an_engine(engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HEARTH_REDIS_URL", "HEARTH_S3_SECRET_KEY", "HF_TOKEN", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "the-secret")
    environment = driver_for(settings(engine=engine)).environment(tmp_path)
    assert "the-secret" not in environment.values()
    assert (environment["HF_HUB_OFFLINE"], environment["DO_NOT_TRACK"]) == ("1", "1")


def test_nothing_fits_beside_an_engine_on_a_gpu(model: Path) -> None:
    assert driver_for(settings(engine_device="cuda")).memory_needed(model) is None
    assert driver_for(settings(cpu_kv_cache_gib=2)).memory_needed(model) == 5 * GIB + 2000


def test_requests_in_flight_are_those_running_and_waiting() -> None:
    metrics = 'vllm:num_requests_running{engine="0"} 2.0\nvllm:num_requests_waiting{engine="0"} 1.0\nother 7\n'
    transport = httpx.MockTransport(lambda _request: httpx.Response(200, text=metrics))
    with httpx.Client(transport=transport, base_url="http://x") as client:
        assert VllmDriver(settings()).requests_in_flight(client) == 3


@pytest.mark.parametrize(
    ("log", "words"),
    [
        (
            "(EngineCore pid=7) ERROR 11-24 13:00:00 [core.py:1] Traceback (most recent call last):\n"
            "(EngineCore pid=7) ERROR 11-24 13:00:00 [core.py:1] safetensors_rust.SafetensorError: not whole\n"
            "(APIServer pid=5) RuntimeError: Engine core initialization failed. See root cause above.\n",
            "safetensors_rust.SafetensorError: not whole",
        ),
        ("loading\n\nKilled\n", "loading | Killed"),
        ("", "it said nothing"),
    ],
)
def test_last_words_are_the_cause(log: str, words: str) -> None:
    assert last_words(log) == words


@pytest.mark.parametrize(
    ("body", "words"),
    [('{"error": {"message": "no such adapter"}}', "no such adapter"), ('{"message": "bad"}', "bad"), ("[1]", "[1]")],
)
def test_an_engines_refusal_keeps_its_words(body: str, words: str) -> None:
    with pytest.raises(EngineRefused, match=r"HTTP 400") as caught:
        checked(httpx.Response(400, text=body))
    assert words in str(caught.value)


def test_a_containers_limit_counts_where_it_is_lower(tmp_path: Path) -> None:
    machine = available_bytes(tmp_path)
    (tmp_path / "memory.max").write_text("1000000\n")
    (tmp_path / "memory.current").write_text("600000\n")
    (tmp_path / "memory.stat").write_text("anon 1\ninactive_file 100000\n")
    assert available_bytes(tmp_path) == 500_000
    (tmp_path / "memory.max").write_text("max\n")
    assert available_bytes(tmp_path) == pytest.approx(machine, rel=0.2)
