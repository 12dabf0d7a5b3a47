"""What is told to the engines, and what is understood of their words."""

import json
import subprocess
from pathlib import Path
from typing import get_args

import httpx
import pytest
from hearth_contracts.deploy import DeploymentSpec, Engine
from hearth_contracts.engine import (
    Dtype,
    EngineSettings,
    KvCacheDtype,
    LoraRank,
    Quantization,
    ReasoningParser,
    ToolCallParser,
)
from hearth_contracts.names import new_id
from hearth_inference.config import InferenceSettings
from hearth_inference.engines import driver_for
from hearth_inference.engines.base import EngineRefused, StartStage, Work, checked, last_words
from hearth_inference.engines.vllm import VllmDriver, flags
from pydantic import ValidationError

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


def test_tools_are_off_unless_a_parser_is_named(model: Path) -> None:
    assert "--enable-auto-tool-choice" not in VllmDriver(settings()).command(SPEC, model, 1)
    command = VllmDriver(settings(tool_call_parser="hermes")).command(SPEC, model, 1)
    assert "--enable-auto-tool-choice" in command
    assert command[command.index("--tool-call-parser") + 1] == "hermes"


def test_a_deployments_settings_become_the_engines_flags(model: Path) -> None:
    asked = EngineSettings(dtype="float32", max_model_len=64, enforce_eager=False, enable_prefix_caching=True)
    command = VllmDriver(settings(engine_device="cpu")).command(SPEC.model_copy(update={"settings": asked}), model, 1)
    assert command[command.index("--dtype") + 1] == "float32"
    assert command[command.index("--max-model-len") + 1] == "64"
    assert {"--no-enforce-eager", "--enable-prefix-caching"} <= set(command)
    assert "--enforce-eager" not in command


def test_flags_are_only_those_that_were_asked_for() -> None:
    assert flags(EngineSettings()) == []
    assert flags(EngineSettings(max_lora_rank=16, gpu_memory_utilization=0.5)) == [
        "--gpu-memory-utilization", "0.5", "--max-lora-rank", "16",
    ]  # fmt: skip


@pytest.mark.parametrize(
    "wrong",
    [
        {"trust_remote_code": True}, {"dtype": "int4"}, {"quantization": "bitsandbytes; rm"}, {"max_model_len": 0},
        {"tensor_parallel_size": 0}, {"gpu_memory_utilization": 1.1}, {"max_lora_rank": 24}, {"seed": -1},
        {"tool_call_parser": "/tmp/plugin.py"}, {"chat_template": "/etc/passwd"}, {"max_num_seqs": "--host"},
    ],
)  # fmt: skip
def test_what_the_engine_does_not_take_is_no_setting(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        EngineSettings.model_validate(wrong)


_CHOICES = """
import json
from typing import get_args
from vllm.config.cache import CacheDType
from vllm.config.lora import MaxLoRARanks
from vllm.config.model import ModelDType
from vllm.engine.arg_utils import EngineArgs
from vllm.model_executor.layers.quantization import DEPRECATED_QUANTIZATION_METHODS, QUANTIZATION_METHODS
from vllm.reasoning import ReasoningParserManager
from vllm.tool_parsers import ToolParserManager
from vllm.tracing import is_tracing_available
print(json.dumps({
    "dtype": get_args(ModelDType), "kv_cache_dtype": get_args(CacheDType), "max_lora_rank": get_args(MaxLoRARanks),
    "quantization": sorted(set(QUANTIZATION_METHODS) - set(DEPRECATED_QUANTIZATION_METHODS)),
    "tool_call_parser": ToolParserManager.list_registered(),
    "reasoning_parser": ReasoningParserManager.list_registered(),
    "names": sorted(EngineArgs.__dataclass_fields__),
    "can_trace": is_tracing_available(),
}))
"""


@pytest.mark.timeout(300)
def test_the_pinned_vllm_takes_every_value_that_a_deployment_may_set(tmp_path: Path) -> None:
    python = Path(__file__).parents[3] / ".envs" / "vllm" / "bin" / "python"
    done = subprocess.run([python, "-c", _CHOICES], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    theirs = json.loads(done.stdout.splitlines()[-1])
    ours = {
        "dtype": Dtype, "kv_cache_dtype": KvCacheDtype, "max_lora_rank": LoraRank, "quantization": Quantization,
        "tool_call_parser": ToolCallParser, "reasoning_parser": ReasoningParser,
    }  # fmt: skip
    for name, values in ours.items():
        assert set(get_args(values)) <= set(theirs[name]), name
    assert EngineSettings.model_fields.keys() - {"tool_call_parser"} <= set(theirs["names"])
    assert theirs["can_trace"] and "otlp_traces_endpoint" in theirs["names"]  # or it would not start with an endpoint


def test_vllm_is_told_where_traces_go_and_by_which_protocol(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "--otlp-traces-endpoint" not in VllmDriver(settings()).command(SPEC, model, 1)
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://collector:4318")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", "authorization=secret")
    driver = VllmDriver(settings())
    command, environment = driver.command(SPEC, model, 1), driver.environment(SPEC, tmp_path)
    assert command[command.index("--otlp-traces-endpoint") + 1] == "http://collector:4318/v1/traces"
    assert not any("secret" in word for word in command)
    assert environment["OTEL_EXPORTER_OTLP_HEADERS"] == "authorization=secret"
    assert environment["OTEL_EXPORTER_OTLP_TRACES_PROTOCOL"] == "http/protobuf"
    assert environment["OTEL_SERVICE_NAME"] == "hearth-vllm"


def test_parts_are_rays_where_a_cluster_is_named_and_rays_token_reaches_them_alone(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_AUTH_TOKEN", "secret")
    asked = EngineSettings(tensor_parallel_size=8, pipeline_parallel_size=2)
    spec = SPEC.model_copy(update={"settings": asked})
    by_itself, on_ray = VllmDriver(settings()), VllmDriver(settings(engine_ray_address="10.0.0.2:6379"))
    command = on_ray.command(spec, model, 1)
    assert command[command.index("--distributed-executor-backend") + 1] == "ray"
    assert command[command.index("--tensor-parallel-size") + 1] == "8"
    assert command[command.index("--pipeline-parallel-size") + 1] == "2"
    environment = on_ray.environment(spec, tmp_path)
    assert (environment["RAY_ADDRESS"], environment["RAY_AUTH_TOKEN"]) == ("10.0.0.2:6379", "secret")
    assert on_ray.memory_needed(spec, model) is None
    assert "--distributed-executor-backend" not in by_itself.command(spec, model, 1)
    assert not any(name.startswith("RAY_") for name in by_itself.environment(spec, tmp_path))


def test_a_starting_engines_log_says_what_it_waits_for() -> None:
    waits = "(EngineCore pid=1) INFO 11-29 11:55:03 [ray_utils.py:467] Waiting for creating a placement group of specs"
    part = "\n(CpuWorker pid=2, ip=10.0.0.3) INFO [parallel_state.py:1906] world_size=2"
    loads = "(CpuWorker pid=2) \rLoading safetensors checkpoint shards:  {}% Completed | {}/4 [00:02<00:02,  1.0it/s]\n"
    driver = VllmDriver(settings(engine_ray_address="10.0.0.2:6379"))
    assert driver.start_stage("INFO starting") is None
    knocks = "INFO worker.py:1841 -- Connecting to existing Ray cluster at address: 10.0.0.2:6379..."
    assert driver.start_stage(knocks) == StartStage("waiting for the Ray cluster at 10.0.0.2:6379")
    assert driver.start_stage(f"{knocks}\nINFO worker.py:2038 -- Connected to Ray cluster.") is None
    assert driver.start_stage(f"{waits} for 10 seconds") == StartStage(
        "waiting for room on the Ray cluster", lacks_room=True
    )
    assert driver.start_stage(f"{waits} for 10 seconds{part}") == StartStage("starting the model's parts")
    log = f"{waits}{part}\n" + loads.format(0, 0) + loads.format(75, 3)
    assert driver.start_stage(log) == StartStage("loading the weights, 3 files of 4", 0.75)
    assert driver.start_stage(log + loads.format(100, 4)) == StartStage("preparing to serve", 1.0)


def test_nothing_is_compiled_while_requests_wait_unless_that_was_asked_for(tmp_path: Path) -> None:
    def compiles(device: str, eager: bool | None) -> bool:
        spec = SPEC.model_copy(update={"settings": EngineSettings(enforce_eager=eager)})
        return "TORCHDYNAMO_DISABLE" not in VllmDriver(settings(engine_device=device)).environment(spec, tmp_path)

    assert [compiles("cpu", eager) for eager in (None, True, False)] == [False, False, True]
    assert compiles("cuda", None)


@pytest.mark.parametrize("engine", list(Engine))
def test_no_secret_of_ours_reaches_an_engine(engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HEARTH_REDIS_URL", "HEARTH_S3_SECRET_KEY", "HF_TOKEN", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "the-secret")
    environment = driver_for(settings(engine=engine)).environment(SPEC, tmp_path)
    assert "the-secret" not in environment.values()
    assert (environment["HF_HUB_OFFLINE"], environment["DO_NOT_TRACK"]) == ("1", "1")


def test_no_engine_runs_code_that_comes_with_a_model(model: Path, tmp_path: Path) -> None:
    assert "--trust-remote-code" not in driver_for(settings(engine=Engine.VLLM)).command(SPEC, model, 1)
    infinity = driver_for(settings(engine=Engine.INFINITY))
    assert infinity.environment(SPEC, tmp_path)["INFINITY_TRUST_REMOTE_CODE"] == "false"


def test_nothing_fits_beside_an_engine_on_a_gpu(model: Path) -> None:
    assert driver_for(settings(engine_device="cuda")).memory_needed(SPEC, model) is None
    assert driver_for(settings(cpu_kv_cache_gib=2)).memory_needed(SPEC, model) == 5 * GIB + 2000


def test_work_done_is_the_tokens_read_and_written_or_the_requests_answered_and_looking_at_it_is_none() -> None:
    metrics = (
        'vllm:prompt_tokens_total{engine="0",model_name="x"} 10.0\nvllm:generation_tokens_total{engine="0"} 3.0\n'
        'vllm:num_requests_running{engine="0"} 2.0\nvllm:num_requests_waiting{engine="0"} 1.0\n'
        'vllm:num_requests_waiting_by_reason{engine="0",reason="capacity"} 1.0\n'
        'http_requests_total{handler="/v1/embeddings",method="POST",status="2xx"} 4.0\n'
        'http_requests_total{handler="/v1/models",method="GET",status="2xx"} 70.0\n'
        'http_requests_total{handler="/health",method="GET",status="2xx"} 9.0\n'
    )
    models = {"data": [{"id": "x", "stats": {"queue_absolute": 6}}]}

    def reply(request: httpx.Request) -> httpx.Response:
        return httpx.Response(200, text=metrics) if request.url.path == "/metrics" else httpx.Response(200, json=models)

    with httpx.Client(transport=httpx.MockTransport(reply), base_url="http://x") as client:
        assert VllmDriver(settings()).work(client) == Work(done=13, waiting=1, running=2)
        assert driver_for(settings(engine=Engine.INFINITY)).work(client) == Work(done=4, waiting=6, running=None)


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
        (
            "(CpuWorker pid=2, ip=10.0.0.3) (Worker_TP1 pid=2) ERROR 11-24 13:00:00 [m.py:1] "
            "torch.OutOfMemoryError: full\n"
            "(EngineCore pid=7) ERROR 11-24 13:00:00 [core.py:1] RuntimeError: Executor failed.\n",
            "torch.OutOfMemoryError: full",
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
