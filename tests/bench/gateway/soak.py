"""`python -m tests.bench.gateway.soak`: memory under full load with clients that leave, and what a second worker adds.

Full load on 64 connections, while another client opens streams and leaves them: half before the first event, half in
mid-stream. The gateway's memory is read every ten seconds.
"""

import argparse
import asyncio
import random
import sys
import tempfile
import time
from contextlib import ExitStack, suppress
from pathlib import Path

import psutil

from tests.bench.gateway.__main__ import Measure, build, go_first, request, run
from tests.bench.gateway.contenders import LOAD_CORE, Contender, await_answer, hearth, on_core, process
from tests.support.servers import free_port

STEP_SECONDS = 10.0
WITH_WARM_UP = 1.1  # the load generator warms up for a tenth of the time, which it does not count
STREAM = Measure("streams", 1, events=1000, pace_ms=20)


async def leave_streams(port: int, key: str, at_once: int = 50) -> None:
    """Open streams and leave them, for ever."""
    sent = request(STREAM, key)

    async def one() -> None:
        while True:
            with suppress(OSError):
                reader, writer = await asyncio.open_connection("127.0.0.1", port)
                writer.write(sent)
                if random.random() < 0.5:
                    await reader.read(2000)
                await asyncio.sleep(random.random() / 5)
                writer.transport.abort()

    await asyncio.gather(*(one() for _ in range(at_once)))


def family(pid: int) -> list[psutil.Process]:
    """A gateway's processes."""
    parent = psutil.Process(pid)
    return [parent, *parent.children(recursive=True)]


def memory(pid: int) -> float:
    """Resident memory of a gateway, in MiB."""
    return sum(each.memory_info().rss for each in family(pid)) / 2**20


def cpu(pid: int) -> float:
    """Seconds of processor that a gateway has had."""
    return sum(sum(each.cpu_times()[:2]) for each in family(pid))


def soak(load: str, gateway: Contender, seconds: float) -> None:
    """Print the memory as it goes."""
    leaving = on_core(LOAD_CORE, [sys.executable, "-m", __spec__.name, "--leave", str(gateway.port), gateway.key])
    measure = Measure("closed", 64, seconds=STEP_SECONDS)
    began = time.monotonic()
    readings = []
    try:
        while time.monotonic() - began < seconds:
            found = run(load, gateway, measure)
            readings.append(memory(gateway.pid))
            passed = time.monotonic() - began
            print(f"{passed:5.0f} s: {found['per_s']:7,.0f} requests/s, {readings[-1]:6.1f} MiB", flush=True)
    finally:
        leaving.kill()
        leaving.wait()
    half = len(readings) // 2
    print(f"memory in the second half: {min(readings[half:]):.1f} to {max(readings[half:]):.1f} MiB")


def per_cpu_second(load: str, gateway: Contender) -> float:
    """Requests for each second of processor."""
    run(load, gateway, Measure("closed", 64, seconds=1))
    before = cpu(gateway.pid)
    found = run(load, gateway, Measure("closed", 64, seconds=5))
    return found["per_s"] * 5 * WITH_WARM_UP / (cpu(gateway.pid) - before)


def main() -> int:
    """Soak, then compare workers."""
    options = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    options.add_argument("--seconds", type=float, default=600)
    options.add_argument("--leave", nargs=2, metavar=("PORT", "KEY"), help=argparse.SUPPRESS)
    chosen = options.parse_args()
    if chosen.leave:
        asyncio.run(leave_streams(int(chosen.leave[0]), chosen.leave[1]))
    go_first()
    with ExitStack() as stack:
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="hearth-soak-")))
        port = free_port()
        load = build("load", scratch)
        stack.enter_context(process(LOAD_CORE, [build("engine", scratch), str(port)]))
        gateway = stack.enter_context(hearth(port, scratch))
        await_answer(gateway)
        one = per_cpu_second(load, gateway)
        with hearth(port, scratch, workers=2) as pair:
            await_answer(pair)
            two = per_cpu_second(load, pair)
        print(f"requests per second of processor: one worker {one:,.0f}, two {two:,.0f} ({2 * two / one:.2f} x)")
        soak(load, gateway, chosen.seconds)
    return 0


if __name__ == "__main__":
    sys.exit(main())
