"""What a base is trained in: the trainer loads it so, and the estimate of its memory reckons so."""

from pathlib import Path
from typing import Literal

SMALL_MODEL_BYTES = 200_000_000
_AVX512 = frozenset({"avx512f", "avx512bw", "avx512dq", "avx512vl"})


def training_width(weight_bytes: int, *, gpu: bool, avx512: bool) -> Literal[2, 4]:
    """Bytes a number of a base whose weights are so large: 2 is bfloat16, 4 is float32.

    bfloat16 on GPUs, and on CPUs with AVX-512, where oneDNN multiplies it: Gemma 3 270M on two cores took 118 s, and
    188 s in float32. Without AVX-512 torch multiplies bfloat16 by a plain loop, a hundred times slower. Small
    models on a CPU are trained in float32 anyway, which is steadier and costs them little.
    """
    return 2 if gpu or (avx512 and weight_bytes >= SMALL_MODEL_BYTES) else 4


def has_avx512(cpuinfo: Path = Path("/proc/cpuinfo")) -> bool:
    """Whether this machine's processor has the parts of AVX-512 that oneDNN multiplies bfloat16 with."""
    lines = cpuinfo.read_text(encoding="utf-8").splitlines() if cpuinfo.exists() else []
    flags = next((line.partition(":")[2].split() for line in lines if line.startswith("flags")), [])
    return _AVX512.issubset(flags)
