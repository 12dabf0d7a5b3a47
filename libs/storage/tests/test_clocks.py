"""What is known of S3's clock is never more than it shows."""

import random
import time

import pytest
from hearth_storage.clocks import ServerClock


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("rate", [0.9995, 1.0, 1.0005])
def test_the_bound_is_never_ahead_of_the_clock_and_close_behind_it_when_that_is_seen(
    seed: int, rate: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng, here, began = random.Random(seed), 1000.0, 1_700_000_000.0
    monkeypatch.setattr(time, "monotonic", lambda: here)
    monkeypatch.setattr(time, "time", lambda: began + here * 2)
    clock = ServerClock()
    assert clock.at(here) == 0
    for _ in range(200):
        here += rng.expovariate(1 / 5000)
        if rng.random() < 0.3:
            clock.saw(began + here * rate - rng.expovariate(1 / 100))
        moment = here - rng.uniform(0, 100)
        assert clock.at(moment) <= began + moment * rate
    clock.saw(began + here * rate)
    assert clock.at(here) == pytest.approx(began + here * rate, abs=0.01)


def test_a_clock_that_is_set_back_takes_the_bound_with_it(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = ServerClock()
    clock.saw(time.time() + 7200)
    assert clock.at(time.monotonic()) == pytest.approx(time.time(), abs=1)
