"""The shorter loss is TRL's loss. Computed where torch is: in the training environment."""

import json
import subprocess
from pathlib import Path

import pytest
from hearth_local.paths import CHECKOUT, env_python

PROGRAM = """
import json, sys, torch
from datasets import Dataset
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, AutoTokenizer
from trl import SFTConfig, SFTTrainer
from hearth_trainer.loss import LabelledLossTrainer, is_plain

folder, accumulate = sys.argv[1], int(sys.argv[2])
ids, labels = [5, 6, 7, 8, 9, 10], [-100, -100, 7, 8, 9, 10]
rows = [{"input_ids": ids[: 4 + n % 3], "labels": labels[: 4 + n % 3]} for n in range(16)]
losses = {}
for kind in (SFTTrainer, LabelledLossTrainer):
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    model = get_peft_model(model, LoraConfig(r=4, target_modules="all-linear", task_type="CAUSAL_LM"))
    assert is_plain(model)
    arguments = SFTConfig(
        output_dir=sys.argv[3], per_device_train_batch_size=8 // accumulate, gradient_accumulation_steps=accumulate,
        max_steps=4, learning_rate=1e-2, logging_steps=1, report_to=[], disable_tqdm=True, use_cpu=True, bf16=False,
        save_strategy="no", max_length=None, gradient_checkpointing=False,
        dataset_kwargs={"skip_prepare_dataset": True},
    )
    trainer = kind(
        model=model, args=arguments, train_dataset=Dataset.from_list(rows),
        processing_class=AutoTokenizer.from_pretrained(folder),
    )
    trainer.train()
    losses[kind.__name__] = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
print("LOSSES", json.dumps(losses))
"""


@pytest.fixture(scope="module")
def tiny_llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model") / "tiny"
    script = CHECKOUT / "tests" / "support" / "tiny_llama.py"
    subprocess.run([str(env_python("training")), str(script), str(folder)], check=True, capture_output=True)
    return folder


@pytest.mark.parametrize("accumulate", [1, 4])
def test_both_losses_agree_step_by_step(tiny_llama: Path, tmp_path: Path, accumulate: int) -> None:
    command = [str(env_python("training")), "-c", PROGRAM, str(tiny_llama), str(accumulate), str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    losses = json.loads(done.stdout.rpartition("LOSSES ")[2])
    assert len(losses["SFTTrainer"]) == 4
    assert losses["LabelledLossTrainer"] == pytest.approx(losses["SFTTrainer"], rel=1e-3)
