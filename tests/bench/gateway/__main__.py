"""`make bench-gateway`: Hearth's gateway beside others, in one run, on the same two cores.

The mock engine and the load generator share core 0, the gateway under test has core 1 to itself. In each round every
contender is measured at one thing before the next thing is measured, so that what else the machine does hits all alike;
the medians of the rounds count. As root the bench goes before everything else on the machine.
"""

import argparse
import contextlib
import json
import os
import subprocess
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

from tests.bench.gateway import report
from tests.bench.gateway.contenders import CONTENDERS, LOAD_CORE, Contender, await_answer, process
from tests.support.servers import free_port

HERE = Path(__file__).parent
PEERS = ("direct", "nginx", "vllm-router", "Hearth")


class Measure(NamedTuple):
    """One thing to measure, in the load generator's words."""

    kind: str
    connections: int
    body: str = "chat"
    seconds: float = 2.0
    rate: int = 1000
    events: int = 128
    pace_ms: int = 20
    rounds: int = 1
    who: tuple[str, ...] = PEERS


MEASURES = {
    "64 connections": Measure("closed", 64, who=tuple(CONTENDERS)),
    "512 connections": Measure("closed", 512),
    "1 connection": Measure("closed", 1, seconds=1.5),
    "1,000 requests/s": Measure("offered", 64, seconds=3),
    "one stream at a time": Measure("streams", 1, events=8, pace_ms=5, rounds=40),
    "500 paced streams": Measure("streams", 500),
    "1,000 paced streams": Measure("streams", 1000),
    "unpaced streams": Measure("streams", 32, pace_ms=0, rounds=20),
    "1 MB prompts": Measure("closed", 8, body="prompt"),
    "2,048 embeddings": Measure("closed", 8, body="embeddings", who=("direct", "nginx", "Hearth")),
}
SMOKE = {
    "64 connections": Measure("closed", 4, seconds=0.2),
    "paced streams": Measure("streams", 4, events=8, pace_ms=1),
    "unpaced streams": Measure("streams", 4, events=8, pace_ms=0),
}


def request(measure: Measure, key: str) -> bytes:
    """The request that is sent again and again."""
    path, fields = "/v1/chat/completions", {"model": "Compressa-LLM"}
    sent: dict[str, Any] = dict(fields)
    if measure.body == "embeddings":
        path = "/v1/embeddings"
        sent = {"model": "Compressa-Embedding", "input": ["a sentence of ten words or so"] * 2048}
    else:
        text = "Say something." if measure.body == "chat" else "lorem ipsum \u00e9 " * 70_000
        sent["messages"] = [{"role": "user", "content": text}]
    if measure.kind == "streams":
        sent |= {"stream": True, "max_tokens": measure.events, "seed": measure.pace_ms}
    body = json.dumps(sent, separators=(",", ":"), ensure_ascii=False).encode()
    lines = [f"POST {path} HTTP/1.1", "host: 127.0.0.1", "content-type: application/json"]
    lines += [f"content-length: {len(body)}", *([f"authorization: Bearer {key}"] if key else []), "", ""]
    return "\r\n".join(lines).encode() + body


def build(name: str, folder: Path) -> str:
    """Compile one of the two programs in C; gives its path."""
    binary = folder / name
    subprocess.run(["cc", "-O2", "-o", str(binary), str(HERE / f"{name}.c")], check=True)
    return str(binary)


def run(load: str, contender: Contender, measure: Measure) -> dict[str, float]:
    """Measure once."""
    words = [contender.port, measure.kind, measure.connections, measure.seconds, measure.rate, measure.events]
    done = subprocess.run(
        ["taskset", "-c", str(LOAD_CORE), load, *map(str, words), str(measure.rounds)],
        input=request(measure, contender.key),
        capture_output=True,
        timeout=150,
        check=False,
    )
    if done.returncode:
        raise SystemExit(f"the load generator failed: {done.stderr.decode()}")
    found: dict[str, float] = json.loads(done.stdout)
    return found


def go_first() -> None:
    """Have the scheduler prefer this run, where we may."""
    with contextlib.suppress(OSError):
        os.setsid()
    with contextlib.suppress(OSError):
        Path("/proc/self/autogroup").write_text("-20")
        os.nice(-19)


def main() -> int:
    """Measure, print, draw."""
    options = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    options.add_argument("--rounds", type=int, default=3)
    options.add_argument("--smoke", action="store_true", help="only see that it runs: Hearth alone, a second in all")
    options.add_argument("--out", type=Path, default=Path("docs/benchmarks"), help="where picture and figures go")
    options.add_argument("--peers", type=Path, default=Path(".envs/bench"), help="where the others are installed")
    chosen = options.parse_args()
    go_first()
    measures = SMOKE if chosen.smoke else MEASURES
    names = ["direct", "Hearth"] if chosen.smoke else list(CONTENDERS)
    chosen.peers.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="hearth-bench-")))
        port = free_port()
        load = build("load", scratch)
        stack.enter_context(process(LOAD_CORE, [build("engine", scratch), str(port)]))
        running = {}
        for name in names:
            running[name] = stack.enter_context(CONTENDERS[name](port, chosen.peers.absolute()))
            await_answer(running[name])
        rounds: list[report.Results] = []
        for number in range(1 if chosen.smoke else chosen.rounds):
            rounds.append({})
            for title, measure in measures.items():
                who = [name for name in names if name in measure.who]
                print(f"round {number + 1}: {title}", file=sys.stderr)
                rounds[-1][title] = {name: run(load, running[name], measure) for name in who}
    results = report.medians(rounds)
    if chosen.smoke:
        print(json.dumps(results))
        return 0
    found = report.bars(results)
    report.print_table(results, found)
    chosen.out.mkdir(parents=True, exist_ok=True)
    report.save(results, found, chosen.out)
    report.draw(results, chosen.out / "gateway.svg")
    return 0


if __name__ == "__main__":
    sys.exit(main())
