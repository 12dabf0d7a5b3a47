"""What one would write by hand, as TRL's documentation shows it: the same data, settings and seed as Hearth is given.

    .envs/training/bin/python tests/bench/train/script.py SETTINGS.json

In the training environment. The time of each step goes to standard output, one JSON object a line.
"""

import json
import os
import sys
import time
from pathlib import Path
from typing import Any

os.environ |= {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}

import torch
from datasets import load_dataset
from peft import LoraConfig
from transformers import AutoTokenizer, TrainerCallback, set_seed
from trl import SFTConfig, SFTTrainer


class Clock(TrainerCallback):  # type: ignore[misc]
    """Tells when each step was logged."""

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, Any] | None = None, **_: Any) -> None:
        """One line."""
        if logs and "loss" in logs:
            told = {"step": state.global_step, "loss": logs["loss"], "at": time.time()}
            sys.__stdout__.write(json.dumps(told) + "\n")  # type: ignore[union-attr]


def main(asked: dict[str, Any]) -> None:
    """Train."""
    settings = asked["hyperparameters"]
    set_seed(settings["seed"])  # or the adapter's first weights are other ones each time
    trainer = SFTTrainer(
        model=asked["model"],
        args=SFTConfig(
            output_dir=asked["folder"],
            max_steps=settings["max_steps"],
            per_device_train_batch_size=settings["batch_size"],
            learning_rate=settings["learning_rate"],
            seed=settings["seed"],
            save_steps=settings["save_steps"],
            save_total_limit=2,
            logging_steps=1,
            gradient_checkpointing=False,
            use_cpu=True,
            bf16=False,
            dataloader_pin_memory=False,
            report_to=[],
            model_init_kwargs={"dtype": torch.float32},
        ),
        train_dataset=load_dataset("json", data_files=asked["data"], split="train", cache_dir=asked["folder"]),
        processing_class=AutoTokenizer.from_pretrained(asked["model"]),
        peft_config=LoraConfig(
            r=settings["lora_rank"],
            lora_alpha=settings["lora_alpha"],
            target_modules="all-linear",
            task_type="CAUSAL_LM",
        ),
        callbacks=[Clock()],
    )
    trainer.train()
    trainer.save_model(asked["folder"] + "/adapter")


if __name__ == "__main__":
    main(json.loads(Path(sys.argv[1]).read_text()))
