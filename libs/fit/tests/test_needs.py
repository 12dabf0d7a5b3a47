"""What serving and training take, for models whose figures are published or measured."""

from pathlib import Path

import pytest
from hearth_contracts.engine import EngineSettings
from hearth_contracts.errors import Conflict, Invalid
from hearth_contracts.fit import Need, Resource
from hearth_fit.engine import EngineDefaults, detect_device
from hearth_fit.facts import Facts, facts_of
from hearth_fit.machine import Machine, Room, disk_room, gpu_rooms, look, memory_room
from hearth_fit.safetensors import Tensor
from hearth_fit.serving import Serving, cluster_note, infinity_needs, vllm_needs
from hearth_fit.training import Training, training_needs
from hearth_fit.weigh import GIB, refusal, report, weigh, words

pytestmark = pytest.mark.timeout(300)  # the tiny model is made with torch, whose import waits for busy disks
NOTHING = Machine(Room(0, 0))
LLAMA_2_7B = {
    "num_hidden_layers": 32, "num_attention_heads": 32, "hidden_size": 4096, "intermediate_size": 11008,
    "vocab_size": 32000, "max_position_embeddings": 4096, "architectures": ["LlamaForCausalLM"],
}  # fmt: skip


def llama_2_7b(**config: object) -> Facts:
    """As its files on the hub describe it, in 16 bits."""
    tensors = [
        Tensor("model.embed_tokens.weight", "F16", (32000, 4096)),
        Tensor("lm_head.weight", "F16", (32000, 4096)),
    ]
    for layer in range(32):
        shapes = {"q_proj": (4096, 4096), "k_proj": (4096, 4096), "v_proj": (4096, 4096), "o_proj": (4096, 4096)}
        shapes |= {"gate_proj": (11008, 4096), "up_proj": (11008, 4096), "down_proj": (4096, 11008)}
        tensors += [Tensor(f"model.layers.{layer}.{name}.weight", "F16", shape) for name, shape in shapes.items()]
    return facts_of({**LLAMA_2_7B, **config}, tuple(tensors))


def llama_2_70b() -> Facts:
    """The same of the largest of them, whose eight key-value heads make two of its layers' weights narrow."""
    size = {"num_hidden_layers": 80, "num_attention_heads": 64, "num_key_value_heads": 8, "hidden_size": 8192}
    shapes = {"q_proj": (8192, 8192), "k_proj": (1024, 8192), "v_proj": (1024, 8192), "o_proj": (8192, 8192)}
    shapes |= {"gate_proj": (28672, 8192), "up_proj": (28672, 8192), "down_proj": (8192, 28672)}
    tensors = [Tensor(name, "F16", (32000, 8192)) for name in ("model.embed_tokens.weight", "lm_head.weight")]
    tensors += [
        Tensor(f"model.layers.{layer}.{name}.weight", "F16", shape)
        for layer in range(80)
        for name, shape in shapes.items()
    ]
    return facts_of({**LLAMA_2_7B, **size, "intermediate_size": 28672}, tuple(tensors))


def serving(facts: Facts, **settings: object) -> Serving:
    defaults = EngineDefaults(engine_device="cpu")
    return Serving(facts, defaults.settled(EngineSettings.model_validate(settings), facts.context))


def by_resource(needs: list[Need]) -> dict[Resource, Need]:
    return {need.resource: need for need in needs}


# -- serving


def test_the_cache_of_a_published_model_is_what_its_paper_says() -> None:
    """OPT-13B: 800 KB a token (Kwon et al. 2023, section 3)."""
    config = {"num_hidden_layers": 40, "num_attention_heads": 40, "hidden_size": 5120, "vocab_size": 50272}
    assert serving(facts_of(config, ())).cache_bytes(1) == 2 * 5120 * 40 * 2 == 819_200


def test_grouped_heads_sliding_layers_and_narrow_caches_take_less() -> None:
    whole = serving(llama_2_7b()).cache_bytes(4096)
    assert serving(llama_2_7b(num_key_value_heads=8)).cache_bytes(4096) == whole // 4
    assert serving(llama_2_7b(), kv_cache_dtype="fp8").cache_bytes(4096) == whole // 2
    assert serving(llama_2_7b(), dtype="float32").cache_bytes(4096) == whole * 2
    kinds = ["sliding_attention"] * 16 + ["full_attention"] * 16
    sliding = llama_2_7b(layer_types=kinds, sliding_window=1024)
    assert serving(sliding).cache_bytes(4096) == whole // 2 + whole // 8
    latent = llama_2_7b(kv_lora_rank=512, qk_rope_head_dim=64)
    assert serving(latent).cache_bytes(1) == 32 * 576 * 2


def test_a_seven_billion_model_in_16_bits_takes_13_gib_of_weights() -> None:
    assert 6.7e9 < llama_2_7b().parameters < 6.8e9
    assert serving(llama_2_7b()).weight_bytes() / GIB == pytest.approx(12.6, abs=0.2)
    assert serving(llama_2_7b(), dtype="float32").weight_bytes() / GIB == pytest.approx(25.1, abs=0.3)
    packed = llama_2_7b(quantization_config={"quant_method": "awq"})
    assert serving(packed, dtype="float32").weight_bytes() == packed.weights_bytes


def test_what_fits_a_cpu_machine_and_what_does_not_says_its_numbers() -> None:
    defaults = EngineDefaults(engine_device="cpu", cpu_kv_cache_gib=4)
    fits = vllm_needs(serving(llama_2_7b()), defaults, Machine(Room(64 * GIB, 40 * GIB)), NOTHING)
    assert [need.fits for need in fits] == [True]
    (need,) = vllm_needs(serving(llama_2_7b()), defaults, Machine(Room(64 * GIB, 12 * GIB)), NOTHING)
    assert not need.fits
    assert need.needed_bytes == sum(need.parts.values())
    assert need.parts["kv_cache"] == 4 * GIB
    assert "needs" in words(need) and "12.0 GiB of 64.0 GiB" in words(need) and "weights 12.6 GiB" in words(need)


@pytest.mark.parametrize("settings", [{"tensor_parallel_size": 2}, {"pipeline_parallel_size": 2}])
def test_on_a_cpu_a_model_in_parts_needs_a_cluster(settings: dict[str, object]) -> None:
    machine = Machine(Room(64 * GIB, 60 * GIB))
    (need,) = vllm_needs(serving(llama_2_7b(), **settings), EngineDefaults(engine_device="cpu"), machine, NOTHING)
    assert not need.fits
    assert "HEARTH_ENGINE_RAY_ADDRESS" in need.remedy


def test_what_the_version_before_gives_back_counts_as_free() -> None:
    defaults = EngineDefaults(engine_device="cpu", cpu_kv_cache_gib=4)
    machine = Machine(Room(64 * GIB, 12 * GIB))
    (need,) = vllm_needs(serving(llama_2_7b()), defaults, machine, Machine(Room(20 * GIB, 20 * GIB)))
    assert (need.fits, need.available_bytes) == (True, 32 * GIB)


def test_a_cache_too_small_for_one_request_is_found_before_vllm_finds_it() -> None:
    defaults = EngineDefaults(engine_device="cpu", cpu_kv_cache_gib=1)
    needs = vllm_needs(serving(llama_2_7b()), defaults, Machine(Room(64 * GIB, 60 * GIB)), NOTHING)
    assert [need.fits for need in needs] == [True, False]
    assert needs[1].needed_bytes == 2 * GIB
    assert "max_model_len" in needs[1].remedy
    shorter = vllm_needs(
        serving(llama_2_7b(), max_model_len=2048), defaults, Machine(Room(64 * GIB, 60 * GIB)), NOTHING
    )
    assert all(need.fits for need in shorter)


@pytest.mark.parametrize(
    ("cards", "settings", "fits"),
    [
        pytest.param([Room(80 * GIB, 79 * GIB)], {}, True, id="one large card"),
        pytest.param([Room(80 * GIB, 40 * GIB)], {}, False, id="somebody else has half of it"),
        pytest.param([Room(80 * GIB, 41 * GIB)], {"gpu_memory_utilization": 0.5}, True, id="it asks for half"),
        pytest.param([Room(16 * GIB, 16 * GIB)], {}, False, id="too small"),
        pytest.param([Room(16 * GIB, 16 * GIB)] * 2, {"tensor_parallel_size": 2}, True, id="two share it"),
        pytest.param([Room(80 * GIB, 80 * GIB)], {"tensor_parallel_size": 2}, False, id="one is not two"),
        pytest.param(
            [Room(16 * GIB, 16 * GIB)] * 2, {"pipeline_parallel_size": 2}, True, id="two have half the layers"
        ),
        pytest.param(
            [Room(16 * GIB, 16 * GIB)] * 2,
            {"tensor_parallel_size": 2, "pipeline_parallel_size": 2},
            False,
            id="two of 4",
        ),
        pytest.param([], {}, False, id="none"),
    ],
)
def test_on_gpus(cards: list[Room], settings: dict[str, object], fits: bool) -> None:
    defaults = EngineDefaults(engine_device="cuda")
    machine = Machine(Room(128 * GIB, 100 * GIB), tuple(cards))
    needs = vllm_needs(serving(llama_2_7b(), **settings), defaults, machine, NOTHING)
    assert report(needs).fits is fits
    assert {need.resource for need in needs} == {Resource.GPU_MEMORY}


@pytest.mark.parametrize(
    ("device", "settings", "words"),
    [
        (
            "cuda",
            {"tensor_parallel_size": 4, "pipeline_parallel_size": 2},
            "GPUs of the Ray cluster: 8, with 3.1 GiB or more each",
        ),
        ("cuda", {}, "GPUs of the Ray cluster: 1, with 16.9 GiB"),
        ("cpu", {"pipeline_parallel_size": 2}, "parts on CPUs (`vllm_cpu`) of the Ray cluster: 2, with 11.0 GiB"),
    ],
)
def test_what_each_of_a_clusters_machines_is_to_hold_is_told(
    device: str, settings: dict[str, object], words: str
) -> None:
    defaults = EngineDefaults.model_validate({"engine_device": device})
    assert words in cluster_note(serving(llama_2_7b(), **settings), defaults)


def test_a_card_that_the_version_before_fills_is_free_for_the_next() -> None:
    machine = Machine(Room(128 * GIB, 100 * GIB), (Room(80 * GIB, 2 * GIB),))
    freed = Machine(Room(0, 0), (Room(74 * GIB, 74 * GIB),))
    (need,) = vllm_needs(serving(llama_2_7b()), EngineDefaults(engine_device="cuda"), machine, freed)
    assert need.fits


def test_embeddings_need_their_weights_and_a_process() -> None:
    (need,) = infinity_needs(100 * 2**20, Machine(Room(8 * GIB, 4 * GIB)), NOTHING)
    assert (need.fits, need.needed_bytes) == (True, GIB + 200 * 2**20)


# -- settings


def test_a_deployments_settings_go_before_the_nodes(facts: Facts) -> None:
    defaults = EngineDefaults(engine_device="cpu", max_model_len=4096, max_lora_rank=9, tool_call_parser="hermes")
    settled = defaults.settled(EngineSettings(), facts.context)
    assert (settled.max_model_len, settled.max_lora_rank, settled.tool_call_parser) == (facts.context, 16, "hermes")
    asked = EngineSettings(max_model_len=64, max_lora_rank=128, tool_call_parser="mistral", dtype="float32")
    settled = defaults.settled(asked, facts.context)
    assert settled == EngineSettings(max_loras=defaults.max_loras, **asked.model_dump(exclude_none=True))
    assert (defaults.rank_limit(EngineSettings()), defaults.rank_limit(asked)) == (9, 128)


def test_gpus_are_those_that_the_driver_lists(tmp_path: Path) -> None:
    assert detect_device(tmp_path / "none") == "cpu"
    assert detect_device(tmp_path) == "cpu"
    (tmp_path / "0000:01:00.0").mkdir()
    assert detect_device(tmp_path) == "cuda"


# -- training


def training(facts: Facts, **fields: object) -> Training:
    usual: dict[str, object] = {
        "device": "cpu", "avx512": True, "rank": 8, "target_modules": None, "rows_at_once": 8, "max_length": 1024,
        "dataset_bytes": 100_000, "dataset_rows": 100,
    }  # fmt: skip
    return Training(facts, **{**usual, **fields})  # type: ignore[arg-type]


def test_an_adapter_has_as_many_numbers_as_lora_gives_it() -> None:
    """Rank 8 on q and v of Llama 2 7B: 4,194,304, as PEFT prints it."""
    assert training(llama_2_7b(), target_modules=("q_proj", "v_proj")).trained() == 4_194_304
    assert training(llama_2_7b()).trained() == 19_988_480


def test_training_seven_billion_on_a_24_gib_card_fits_only_in_4_bits() -> None:
    machine = Machine(Room(64 * GIB, 60 * GIB), (Room(24 * GIB, 23 * GIB),))
    disk = Room(100 * GIB, 50 * GIB)
    long = {"device": "cuda", "packing": True, "max_length": 2048}
    whole = by_resource(training_needs(training(llama_2_7b(), **long), machine, NOTHING, disk))
    assert not whole[Resource.GPU_MEMORY].fits
    narrow = training(llama_2_7b(), **long, load_in_4bit=True, rows_at_once=4)
    need = by_resource(training_needs(narrow, machine, NOTHING, disk))[Resource.GPU_MEMORY]
    assert need.fits
    # 6.5 billion numbers in 4 bits, and 262 million of embeddings and norms in 32
    assert need.parts["weights"] / GIB == pytest.approx(3.11 + 0.98, abs=0.02)


def test_seventy_billion_fit_on_eight_cards_that_share_the_base_and_on_none_alone() -> None:
    machine = Machine(Room(64 * GIB, 60 * GIB), (Room(80 * GIB, 79 * GIB),))
    disk = Room(100 * GIB, 50 * GIB)
    alone, shared = (
        by_resource(training_needs(training(llama_2_70b(), device="cuda", shards=shards), machine, NOTHING, disk))
        for shards in (1, 8)
    )
    assert not alone[Resource.GPU_MEMORY].fits and alone[Resource.GPU_MEMORY].parts["gathered"] == 0
    need = shared[Resource.GPU_MEMORY]
    assert need.fits
    assert need.parts["weights"] / GIB == pytest.approx(128.5 / 8, abs=0.1)
    assert need.parts["gathered"] / GIB == pytest.approx(2 * 1.59 + 0.49, abs=0.02)  # two layers of 80, the vocabulary


def test_a_base_is_reckoned_in_what_it_is_trained_in() -> None:
    two_bytes = training(llama_2_7b()).width
    assert (two_bytes, training(llama_2_7b(), avx512=False).width) == (2.0, 4.0)
    assert training(llama_2_7b(), device="cuda", avx512=False).width == 2.0
    memory = Machine(Room(64 * GIB, 30 * GIB))
    wide = by_resource(training_needs(training(llama_2_7b(), avx512=False), memory, NOTHING, Room(GIB, GIB)))
    assert wide[Resource.MEMORY].parts["weights"] / GIB == pytest.approx(25.1, abs=0.3)


def test_the_length_of_a_batch_is_bounded_by_the_rows_and_by_max_length(facts: Facts) -> None:
    assert training(facts, dataset_bytes=3_000, dataset_rows=10).tokens == 400
    assert training(facts, dataset_bytes=3_000_000, dataset_rows=10).tokens == 1024
    assert training(facts, dataset_bytes=30, dataset_rows=10, packing=True).tokens == 1024


def test_the_tiny_model_trains_nearly_anywhere_but_not_on_a_full_disk(facts: Facts) -> None:
    machine = Machine(Room(4 * GIB, 2 * GIB))
    found = by_resource(training_needs(training(facts), machine, NOTHING, Room(GIB, GIB)))
    assert all(need.fits for need in found.values())
    found = by_resource(training_needs(training(facts), machine, NOTHING, Room(GIB, 1000)))
    assert (found[Resource.MEMORY].fits, found[Resource.DISK].fits) == (True, False)


# -- weighing


def test_what_can_never_fit_is_refused_otherwise_than_what_cannot_for_now() -> None:
    full = weigh(Resource.DISK, {"files": 5}, Room(10, 4), "free some")
    assert isinstance(refusal("x", report([full])), Conflict)
    huge = weigh(Resource.DISK, {"files": 50}, Room(10, 4), "free some")
    error = refusal("model a/b", report([full, huge]))
    assert isinstance(error, Invalid)
    assert error.detail.startswith("model a/b does not fit: it needs")
    assert [fault.loc for fault in error.faults or []] == [["fit", "disk"], ["fit", "disk"]]
    assert refusal("x", report([weigh(Resource.DISK, {"files": 4}, Room(10, 4), "")])) is None


# -- the machine


def test_this_machine_has_memory_and_a_disk(tmp_path: Path) -> None:
    machine = look()
    assert 0 < machine.memory.free <= machine.memory.total
    assert machine.gpus == tuple(gpu_rooms())
    room = disk_room(tmp_path / "not" / "yet")
    assert 0 < room.free <= room.total


def test_a_containers_limit_counts_where_it_is_lower(tmp_path: Path) -> None:
    machine = memory_room(tmp_path)
    (tmp_path / "memory.max").write_text("1000000\n")
    (tmp_path / "memory.current").write_text("600000\n")
    (tmp_path / "memory.stat").write_text("anon 1\ninactive_file 100000\n")
    assert memory_room(tmp_path) == Room(1_000_000, 500_000)
    (tmp_path / "memory.max").write_text("max\n")
    assert memory_room(tmp_path).total == machine.total
