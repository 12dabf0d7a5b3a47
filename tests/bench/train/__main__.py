"""`make bench-train`: a fine-tune by Hearth beside the same TRL script started by hand.

    python -m tests.bench.train [--model FOLDER] [--rows N] [--steps N] [--rounds N] [--out FOLDER]

In each round the script, a platform with a cold trainer and one with a warm trainer train one after the other, on the
same rows with the same settings and seed. From being asked (the process started; POST sent to the gateway) to the first
step, then the pace from there on, and the loss at the end. Without --model it is the tests' tiny Llama.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Annotated, Any

import typer
from hearth_contracts.base import now
from hearth_local.paths import CHECKOUT, env_python

from tests.bench.train.report import CONTENDERS, Measured, Rounds, print_table, save
from tests.bench.train.servers import MODEL_ID, platform
from tests.support.tickets import rows

SUPPORT = CHECKOUT / "tests" / "support"
SCRIPT = CHECKOUT / "tests" / "bench" / "train" / "script.py"


def main(
    model: Annotated[Path | None, typer.Option(help="a model's folder; the tiny Llama without it")] = None,
    count: Annotated[int, typer.Option("--rows", help="of the dataset")] = 2000,
    steps: int = 100,
    rounds: int = 3,
    out: Annotated[Path, typer.Option(help="where picture and figures go")] = Path("docs/benchmarks"),
) -> None:
    """Measure and print the table."""
    scratch = Path(tempfile.mkdtemp(prefix="bench-train-"))
    try:
        data = scratch / "tickets.jsonl"
        data.write_text("".join(f"{_prompt_completion(line)}\n" for line in rows(count)))
        folder = model or _tiny(scratch / "tiny")
        settings = {
            "max_steps": steps, "batch_size": 8, "learning_rate": 1e-3, "seed": 1, "lora_rank": 8, "lora_alpha": 16,
            "save_steps": max(1, steps // 10),
        }  # fmt: skip
        done: Rounds = {who: [] for who in CONTENDERS}
        for number in range(1, rounds + 1):
            for who in CONTENDERS:
                place = scratch / f"{who}-{number}"
                place.mkdir()
                done[who].append(
                    _script(place, folder, data, settings)
                    if who == "script"
                    else _hearth(place, folder, data, settings, warm=who == "warm")
                )
                shutil.rmtree(place)
                seconds = done[who][-1].to_first_step
                print(f"round {number}, {who}: first step after {seconds:.1f} s", file=sys.stderr)
        print_table(folder.name, done)
        out.mkdir(parents=True, exist_ok=True)
        save(folder.name, done, out)
    finally:
        shutil.rmtree(scratch)


def _tiny(folder: Path) -> Path:
    subprocess.run([env_python("training"), SUPPORT / "tiny_llama.py", folder], check=True, stdout=subprocess.DEVNULL)
    return folder


def _prompt_completion(line: str) -> str:
    """A row whose answer alone TRL learns without being told."""
    messages = json.loads(line)["messages"]
    return json.dumps({"prompt": messages[:-1], "completion": messages[-1:]})


def _script(place: Path, model: Path, data: Path, settings: dict[str, Any]) -> Measured:
    asked = {"model": str(model), "data": str(data), "folder": str(place / "run"), "hyperparameters": settings}
    (place / "settings.json").write_text(json.dumps(asked))
    # Idle OpenMP threads spin unless told; where other work goes on that would make it many times slower.
    env = {**os.environ, "OMP_WAIT_POLICY": "PASSIVE"}
    with (place / "log").open("wb") as log:
        began = time.time()
        done = subprocess.run(
            [env_python("training"), SCRIPT, place / "settings.json"],
            stdout=subprocess.PIPE, stderr=log, text=True, env=env,
        )  # fmt: skip
    assert done.returncode == 0, (place / "log").read_text()[-3000:]
    points = [json.loads(line) for line in done.stdout.splitlines() if line.startswith('{"step"')]
    return Measured(began, [point["at"] for point in points], [point["loss"] for point in points])


def _hearth(place: Path, model: Path, data: Path, settings: dict[str, Any], *, warm: bool) -> Measured:
    with platform(place, model, warm=warm) as running:
        dataset = running.client.datasets.upload(data)
        if warm:
            running.trainer_stands_by()
        began = now().timestamp()
        run = running.client.finetune.create("Bench", MODEL_ID, dataset.id, settings)
        run.wait()
        points = run.metrics().points
    losses = [point.loss for point in points if point.loss is not None]
    assert len(losses) == settings["max_steps"], f"{len(losses)} steps were told"
    return Measured(began, [point.at.timestamp() for point in points], losses)


if __name__ == "__main__":
    typer.run(main)
