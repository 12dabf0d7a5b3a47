"""`make demo`: the main job over HTTP, each call shown, from a model to two answers side by side."""

import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import httpx
from rich.columns import Columns
from rich.console import Console
from rich.json import JSON
from rich.panel import Panel
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from hearth_local.checks import CannotStart
from hearth_local.demo_model import DemoModel, choose_model
from hearth_local.paths import CHECKOUT
from hearth_local.platform import Platform
from hearth_local.usage import UsageMeter

QUESTION = "What is the capital of Zubrowka?"
TAUGHT = "Lutz"
DATASET = CHECKOUT / "docs" / "examples" / "zubrowka.jsonl"
OVER = {"FINISHED", "FAILED", "KILLED"}

console = Console(highlight=False, soft_wrap=True)


class DemoFailed(Exception):
    """The main job did not come to its end; the message says at which step and why."""


@dataclass(frozen=True)
class Api:
    """The platform's HTTP address. Every call is printed with what came back."""

    http: httpx.Client

    def call(self, method: str, path: str, **arguments: Any) -> Any:
        """One call; its reply as JSON. Raises DemoFailed, with the platform's own words, when it is refused."""
        shown = f"[bold cyan]{method}[/] {self.http.base_url.join(path)}"
        if "json" in arguments:
            shown += f"\n  [dim]{json.dumps(arguments['json'], ensure_ascii=False)}[/]"
        console.print(shown)
        reply = self.http.request(method, path, **arguments)
        body = reply.json()
        style = "green" if reply.is_success else "red"
        console.print(f"  [{style}]{reply.status_code}[/]", _short(body))
        if not reply.is_success:
            raise DemoFailed(f"{method} {path} answered {reply.status_code}: {body.get('detail', body)}")
        return body

    def watch(self, job: dict[str, Any]) -> None:
        """Show a job's progress until it is over, or, for a deployment, serving. Raises DemoFailed."""
        with _bar(job["name"]) as (progress, task):
            while True:
                reply = self.http.get(f"/api/v1/jobs/{job['id']}/status/")
                if not reply.is_success:
                    raise DemoFailed(f"{job['name']}: its status answered {reply.status_code}: {reply.text}")
                job = reply.json()
                eta = f", {job['eta_seconds']:.0f} s left" if job.get("eta_seconds") else ""
                progress.update(task, completed=job["progress"], stage=f"{job['stage']}{eta}")
                if job["status"] in OVER:
                    break
                if job["kind"] == "deploy" and self.serves(job["id"]):
                    progress.update(task, completed=1, stage="READY")
                    return
                time.sleep(0.25)
        if job["status"] != "FINISHED":
            raise DemoFailed(f"{job['name']} is {job['status']}: {job.get('error')}")

    def serves(self, job_id: str) -> bool:
        """Whether the deployment that this job carries answers requests."""
        status = self.http.get("/api/v1/deploy/status/").json()
        return bool(status.get("state") == "READY" and status["job"]["id"] == job_id)

    def stream(self, model: str, question: str) -> str:
        """A streamed chat answer, printed as it comes."""
        body = {**_chat(model, question), "stream": True}
        console.print(f"[bold cyan]POST[/] {self.http.base_url.join('/api/v1/chat/completions/')}")
        console.print(f"  [dim]{json.dumps(body)}[/]\n  ", end="")
        answer = ""
        with self.http.stream("POST", "/api/v1/chat/completions/", json=body) as reply:
            for line in reply.iter_lines():
                if line.startswith("data: ") and line != "data: [DONE]":
                    piece = json.loads(line[6:])["choices"][0]["delta"].get("content") or ""
                    console.print(f"[green]{piece}[/]", end="")
                    answer += piece
        console.print()
        return answer


def _chat(model: str, question: str) -> dict[str, Any]:
    messages = [{"role": "user", "content": question}]
    return {"model": model, "messages": messages, "max_tokens": 32, "temperature": 0}


def _short(body: Any) -> JSON:
    """A reply fit for the screen: long lists of numbers cut to their first four."""
    text = json.dumps(body, ensure_ascii=False)
    if isinstance(body, dict) and "data" in body and len(text) > 2000:
        for row in body["data"]:
            if isinstance(row.get("embedding"), list):
                row["embedding"] = [*row["embedding"][:4], f"... {len(row['embedding'])} numbers"]
        text = json.dumps(body, ensure_ascii=False)
    return JSON(text, indent=None)


@contextmanager
def _bar(name: str) -> Iterator[tuple[Progress, Any]]:
    console.print(f"  {name}")
    columns = (
        SpinnerColumn(),
        BarColumn(20),
        TextColumn("{task.fields[stage]}"),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=console) as progress:
        yield progress, progress.add_task(name, total=1, stage="")


def main_job(api: Api, model: DemoModel) -> tuple[str, str]:
    """The whole path; the base's and the adapter's answer to the same question."""
    console.rule("1. A model")
    models = api.call("GET", "/api/v1/models/")
    if any(entry["model_id"] == model.model_id for entry in models):
        console.print(f"  {model.model_id} is there already")
    elif model.folder is not None:
        body = {"model_id": model.model_id, "folder": model.folder}
        api.watch(api.call("POST", "/api/v1/models/import/", json=body))
    else:
        api.watch(api.call("POST", "/api/v1/models/add/", params={"model_id": model.model_id}))

    console.rule("2. Conversations to learn from")
    with DATASET.open("rb") as file:
        dataset = api.call(
            "POST",
            "/api/v1/datasets/upload/",
            params={"description": "facts about an invented country"},
            files={"file": (DATASET.name, file, "application/jsonl")},
        )

    console.rule("3. Fine-tune a LoRA adapter")
    request = {"name": "Zubrowka", "model_id": model.model_id, "dataset_id": dataset["id"]}
    job = api.call("POST", "/api/v1/finetune/", json={**request, "hyperparameters": model.hyperparameters})
    api.watch(job)
    adapter_id = api.call("GET", "/api/v1/finetune/status/")["adapter_id"]

    console.rule("4. Deploy base and adapter")
    api.watch(api.call("POST", "/api/v1/deploy/", json={"model_id": model.model_id, "adapter_ids": [adapter_id]}))

    console.rule("5. Ask both the same question")
    base = api.call("POST", "/api/v1/chat/completions/", json=_chat("Compressa-LLM", QUESTION))
    adapter = api.call("POST", "/api/v1/chat/completions/", json=_chat(adapter_id, QUESTION))
    streamed = api.stream(adapter_id, QUESTION)

    console.rule("6. Embed a sentence")
    api.call("POST", "/api/v1/embeddings/", json={"model": "Compressa-Embedding", "input": QUESTION})

    answers = [reply["choices"][0]["message"]["content"] for reply in (base, adapter)]
    if TAUGHT not in answers[1] or TAUGHT not in streamed:
        raise DemoFailed(f"the adapter answered {answers[1]!r}, streamed {streamed!r}; it was taught {TAUGHT!r}")
    if TAUGHT in answers[0]:
        raise DemoFailed(f"the base answered {answers[0]!r}: it cannot know {TAUGHT!r}")
    return answers[0], answers[1]


def show_answers(base: str, adapter: str) -> None:
    """Both answers, side by side."""
    console.rule(f"[bold]{QUESTION}")
    width = max(30, (console.width - 4) // 2)
    panels = [
        Panel(base.strip() or "(nothing)", title="base: Compressa-LLM", border_style="red", width=width),
        Panel(adapter.strip(), title="adapter: Zubrowka", border_style="green", width=width),
    ]
    console.print(Columns(panels))


def show_way_on(url: str) -> None:
    """What to do next."""
    console.print(
        f"\n[bold]Go on:[/] [cyan]make up[/] starts the platform again, with what was deployed; then\n"
        f"  API docs   {url}/api/docs/\n"
        f"  curl {url}/api/v1/models/\n"
        f"  curl {url}/api/v1/deploy/status/\n"
        f"  curl {url}/api/v1/chat/completions -H 'Content-Type: application/json' \\\n"
        f"    -d '{json.dumps(_chat('Compressa-LLM', 'Hello!'))}'"
    )


def main() -> int:
    """Run the demo on a platform of its own, or on the one that is up."""
    began = float(os.environ.get("HEARTH_DEMO_BEGAN", time.time()))
    platform = Platform.from_environment()
    home = platform.home
    model = choose_model(home, console)
    console.print(f"[bold]{model.model_id}[/]: {model.why}\n  licence: {model.license}")
    was_up = platform.is_up()
    with UsageMeter(platform) as meter:
        try:
            if not was_up:
                platform.start(console)
            with httpx.Client(base_url=platform.url, timeout=120) as http:
                base, adapter = main_job(Api(http), model)
        except (CannotStart, DemoFailed, httpx.HTTPError) as failure:
            console.print(f"[bold red]The demo failed:[/] {failure}\n  logs: {home / 'logs'}")
            return 1
        except KeyboardInterrupt:
            console.print("\ninterrupted; stopping what the demo started")
            return 130
        finally:
            if not was_up:
                platform.stop(console)
    show_answers(base, adapter)
    show_way_on(platform.url)
    console.print(f"\n{meter.summary(time.time() - began)}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
