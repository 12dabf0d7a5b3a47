"""What a deployment may set of its engine. Names, values and meanings are vLLM's own (`vllm serve --help=all`).

A closed list: nothing here is a free flag, names a file, or lets a model's own code run. A test in the vLLM environment
asks the pinned version whether it still takes every value.
"""

from typing import Literal

from pydantic import Field

from hearth_contracts.base import Frozen

Dtype = Literal["auto", "bfloat16", "float", "float16", "float32", "half"]

KvCacheDtype = Literal["auto", "bfloat16", "float16", "fp8", "fp8_e4m3", "fp8_e5m2"]

Quantization = Literal[
    "awq", "awq_marlin", "auto_awq", "gptq", "gptq_marlin", "auto_gptq", "compressed-tensors", "fp8", "experts_int8",
    "modelopt", "modelopt_fp4", "moe_wna16", "mxfp4", "mxfp8", "quark", "torchao", "inc",
    "fp8_per_tensor", "fp8_per_block", "fp8_per_channel", "int8_per_channel_weight_only",
]  # fmt: skip

LoraRank = Literal[1, 8, 16, 32, 64, 128, 256]

ToolCallParser = Literal[
    "apertus", "cohere_command3", "cohere_command4", "deepseek_v3", "deepseek_v31", "deepseek_v32", "deepseek_v4",
    "dots", "ernie45", "functiongemma", "gemma4", "gigachat3", "glm45", "glm47", "granite", "granite-20b-fc",
    "granite4", "hermes", "hunyuan_a13b", "internlm", "jamba", "kimi_k2", "kimi_k3", "lfm2", "llama3_json",
    "llama4_json", "llama4_pythonic", "longcat", "mimo", "minicpm5", "minimax_m2", "minimax_m3", "mistral", "olmo3",
    "openai", "phi4_mini_json", "pythonic", "qwen3_coder", "qwen3_json", "qwen3_xml", "seed_oss", "step3", "step3p5",
    "xlam",
]  # fmt: skip

ReasoningParser = Literal[
    "cohere_command3", "cohere_command4", "deepseek_r1", "deepseek_v3", "deepseek_v4", "ernie45", "gemma4", "glm45",
    "glm47", "granite", "hunyuan_a13b", "kimi_k2", "kimi_k3", "mimo", "minimax_m2", "minimax_m3", "mistral",
    "nemotron_v3", "olmo3", "openai_gptoss", "qwen3", "seed_oss", "step3", "step3p5",
]  # fmt: skip


class EngineSettings(Frozen):
    """How vLLM serves the model. What is left out is as the inference node is set, or as vLLM has it."""

    dtype: Dtype | None = Field(default=None, description="of weights and activations; auto: as its config says")
    quantization: Quantization | None = Field(default=None, description="how the weights are, or are to be, quantized")
    kv_cache_dtype: KvCacheDtype | None = Field(default=None, description="of the key-value cache")
    max_model_len: int | None = Field(default=None, ge=16, le=10_000_000, description="tokens of prompt and answer")
    max_num_seqs: int | None = Field(default=None, ge=1, le=4096, description="requests worked on at once")
    max_num_batched_tokens: int | None = Field(default=None, ge=16, le=1_000_000, description="tokens in one step")
    gpu_memory_utilization: float | None = Field(
        default=None, gt=0, le=1, description="share of each GPU's memory that the engine takes; of no use on a CPU"
    )
    tensor_parallel_size: int | None = Field(default=None, ge=1, le=64, description="GPUs that share each layer")
    pipeline_parallel_size: int | None = Field(
        default=None, ge=1, le=64, description="stages that share out the layers, of tensor_parallel_size GPUs each"
    )
    enable_prefix_caching: bool | None = Field(default=None, description="keep what prompts have in common")
    enforce_eager: bool | None = Field(default=None, description="no CUDA graphs, no torch.compile: starts sooner")
    max_loras: int | None = Field(default=None, ge=1, le=64, description="adapters that one batch may use at once")
    max_lora_rank: LoraRank | None = Field(default=None, description="the highest rank of an adapter")
    tool_call_parser: ToolCallParser | None = Field(default=None, description="turns tool calls on; how to read them")
    reasoning_parser: ReasoningParser | None = Field(default=None, description="how to tell reasoning from the answer")
    seed: int | None = Field(default=None, ge=0, lt=2**32, description="for requests that bring none")

    @property
    def ranks(self) -> int:
        """The GPUs that hold a part of the model each."""
        return (self.tensor_parallel_size or 1) * (self.pipeline_parallel_size or 1)
