"""Signs of life: for the guard right above, and for nobody else."""

import asyncio
import contextlib
import os
from collections.abc import Iterator

import pytest
from hearth_web.pulse import PULSE, beating


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    ends = os.pipe()
    for end in ends:
        os.set_blocking(end, False)
    yield ends
    for end in ends:
        os.close(end)


async def live(seconds: float) -> None:
    async with beating():
        await asyncio.sleep(seconds)


def test_it_beats_once_a_second(pipe: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(PULSE, f"{os.getppid()}:{pipe[1]}")
    asyncio.run(live(1.2))
    assert os.read(pipe[0], 100) == b".."


def test_a_process_started_by_the_guarded_one_does_not_beat_for_it(
    pipe: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(PULSE, f"{os.getpid()}:{pipe[1]}")  # its parent's guard; the pipe's number may be any file here
    asyncio.run(live(0.1))
    with pytest.raises(BlockingIOError):
        os.read(pipe[0], 100)


def test_a_guard_that_does_not_read_stops_nothing(pipe: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(PULSE, f"{os.getppid()}:{pipe[1]}")
    with contextlib.suppress(BlockingIOError):
        while True:
            os.write(pipe[1], bytes(2**16))
    asyncio.run(live(0.1))
