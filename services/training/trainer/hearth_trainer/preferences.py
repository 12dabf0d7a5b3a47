"""Preference pairs: as tokens, and TRL's DPO trainer over them. The base without its adapter is the reference."""

from dataclasses import dataclass
from typing import Any

from datasets import Dataset
from hearth_contracts.finetune import RunSpec
from hearth_contracts.rows import Conversation, Message, Preference
from trl import DPOConfig, DPOTrainer

from hearth_trainer.masking import IGNORED, Example, encode
from hearth_trainer.reporter import Reporter


@dataclass(frozen=True)
class Pair:
    """A prompt and two ways to go on, as token ids."""

    prompt: list[int]
    chosen: list[int]
    rejected: list[int]

    @property
    def input_ids(self) -> list[int]:
        """All tokens that go through the model."""
        return [*self.prompt, *self.chosen, *self.prompt, *self.rejected]


def encode_pair(tokenizer: Any, row: Preference) -> Pair:
    """Render both conversations with the model's own chat template. Raises CannotEncode."""
    better, worse = (encode(tokenizer, _conversation(row, answer)) for answer in (row.chosen, row.rejected))
    start = min(_begin(better), _begin(worse), _common(better.input_ids, worse.input_ids))
    return Pair(better.input_ids[:start], better.input_ids[start:], worse.input_ids[start:])


def _conversation(row: Preference, answer: list[Message]) -> Conversation:
    learn = [False] * len(row.prompt) + [message["role"] == "assistant" for message in answer]
    return Conversation(row.line, [*row.prompt, *answer], learn, row.tools)


def _begin(example: Example) -> int:
    """Where the first learnt token is."""
    return next((index for index, label in enumerate(example.labels) if label != IGNORED), len(example.labels))


def _common(one: list[int], other: list[int]) -> int:
    """How many tokens both begin with."""
    length = min(len(one), len(other))
    return next((index for index in range(length) if one[index] != other[index]), length)


class PairTrainer(DPOTrainer):  # type: ignore[misc]
    """TRL's trainer over pairs that are tokens already, counting them."""

    def __init__(self, reporter: Reporter, **options: Any) -> None:
        super().__init__(**options)
        self._reporter = reporter

    def _prepare_dataset(self, dataset: Dataset, *_: Any, **__: Any) -> Dataset:
        """They are checked and cut by `rows`; TRL would drop the ones that are too long without a word."""
        return dataset

    def training_step(self, model: Any, inputs: Any, *rest: Any, **more: Any) -> Any:
        """One pass over a part of the batch."""
        self._reporter.tokens_seen += inputs["attention_mask"].sum()
        return super().training_step(model, inputs, *rest, **more)


def dpo_trainer(
    spec: RunSpec, tokenizer: Any, model: Any, split: Any, reporter: Reporter, arguments: dict[str, Any], callbacks: Any
) -> PairTrainer:
    """A trainer ready to run."""
    trainer = PairTrainer(
        reporter,
        model=model,
        args=DPOConfig(**arguments, beta=spec.hyperparameters.beta, max_length=spec.hyperparameters.max_length),
        train_dataset=_dataset(split.train),
        eval_dataset=_dataset(split.validation) if split.validation else None,
        processing_class=tokenizer,
        callbacks=callbacks,
    )
    trainer.processing_class = None  # or every checkpoint stores the tokenizer too: 33 MB for Gemma
    return trainer


def _dataset(pairs: list[Pair]) -> Dataset:
    return Dataset.from_list(
        [{"prompt_ids": pair.prompt, "chosen_ids": pair.chosen, "rejected_ids": pair.rejected} for pair in pairs]
    )
