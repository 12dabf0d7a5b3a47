"""The rows of a run as tokens, each checked before the first step: what cannot be learnt from is refused by line."""

import random
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hearth_contracts.datasets import DatasetFormat
from hearth_contracts.finetune import RunSpec
from hearth_contracts.rows import Preference, Row

from hearth_trainer.conversations import read_rows
from hearth_trainer.masking import CannotEncode, Example, cut, encode_row, learns_something
from hearth_trainer.preferences import Pair, encode_pair
from hearth_trainer.refusal import Refused

ROWS_NAMED = 10

Encoded = Example | Pair
"""A row for sft, or one for dpo."""


@dataclass(frozen=True)
class Split:
    """The rows to learn from, and those that only measure."""

    train: list[Encoded]
    validation: list[Encoded]


def encode_split(tokenizer: Any, spec: RunSpec, vocabulary: int) -> Split:
    """All rows of the run, cut to max_length. Raises Refused."""
    rows = encode_file(tokenizer, Path(spec.data_path), spec.data_format, spec, vocabulary)
    if spec.validation_path is not None:
        format_ = spec.validation_format or spec.data_format
        return Split(rows, encode_file(tokenizer, Path(spec.validation_path), format_, spec, vocabulary))
    kept_back = spec.hyperparameters.kept_back(len(rows))
    chosen = set(random.Random(spec.hyperparameters.seed).sample(range(len(rows)), kept_back))  # noqa: S311
    return Split(
        [row for index, row in enumerate(rows) if index not in chosen],
        [row for index, row in enumerate(rows) if index in chosen],
    )


def encode_file(
    tokenizer: Any, path: Path, data_format: DatasetFormat, spec: RunSpec, vocabulary: int
) -> list[Encoded]:
    """Every row of a file, cut to max_length. Raises Refused, naming the rows that cannot be learnt from."""
    limit = spec.hyperparameters.max_length
    faults = Faults(spec.model_id, limit, vocabulary)
    encoded: list[Encoded] = []
    for row in read_rows(path, data_format):
        try:
            whole = _encode(tokenizer, row, spec.hyperparameters.method)
        except CannotEncode as error:
            faults.rejected.append((row.line, str(error)))
            continue
        if (highest := max(whole.input_ids, default=0)) >= vocabulary:
            faults.unknown.append((row.line, highest))
        elif isinstance(whole, Pair):
            if len(whole.prompt) < limit:  # the trainer cuts the answers
                encoded.append(whole)
            else:
                faults.cut_off.append((row.line, len(whole.prompt) + 1))
        elif learns_something(short := cut(whole, limit)):
            encoded.append(short)
        else:
            faults.cut_off.append((row.line, len(whole.input_ids)))
    faults.raise_if_any()
    return encoded


def _encode(tokenizer: Any, row: Row, method: str) -> Encoded:
    if method == "sft":
        return encode_row(tokenizer, row)
    if not isinstance(row, Preference):
        raise CannotEncode("dpo learns from preference pairs, and this is none")
    return encode_pair(tokenizer, row)


@dataclass
class Faults:
    """What is wrong with a file's rows."""

    model_id: str
    max_length: int
    vocabulary: int
    rejected: list[tuple[int, str]] = field(default_factory=list)  # line, the template's words
    unknown: list[tuple[int, int]] = field(default_factory=list)  # line, the highest token id
    cut_off: list[tuple[int, int]] = field(default_factory=list)  # line, tokens that would be needed

    def raise_if_any(self) -> None:
        """Raise Refused for the first kind that there is."""
        if self.rejected:
            words = "; ".join(f"line {line}: {reason}" for line, reason in self.rejected[:ROWS_NAMED])
            raise Refused(f"{len(self.rejected)} rows do not fit {self.model_id}: {words}")
        if self.unknown:
            highest = max(token for _, token in self.unknown)
            raise Refused(
                f"{len(self.unknown)} rows have tokens that {self.model_id} has no embedding for "
                f"(up to {highest}; it has {self.vocabulary}): {_lines(self.unknown)}. "
                "Its tokenizer belongs to another model: add the model again, whole"
            )
        if self.cut_off:
            longest = max(length for _, length in self.cut_off)
            raise Refused(
                f"in {len(self.cut_off)} rows nothing the assistant says is within max_length={self.max_length} "
                f"tokens, so nothing could be learnt from them: {_lines(self.cut_off)}. "
                f"Set max_length to {longest} or shorten the rows"
            )


def _lines(faults: list[tuple[int, int]]) -> str:
    return "lines " + ", ".join(str(line) for line, _ in faults[:ROWS_NAMED])
