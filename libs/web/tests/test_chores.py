"""What is repeated beside a service."""

import threading
from queue import Queue

from hearth_web.chores import repeated


def test_it_is_done_at_once_and_again_though_it_failed_and_not_after_the_block() -> None:
    times: Queue[int] = Queue()
    threads = threading.active_count()

    def tidy() -> None:
        times.put(1)
        raise OSError("away")

    with repeated(tidy, 0.01):
        (mine,) = (each for each in threading.enumerate() if each.name == "tidy")
        for _ in range(3):
            times.get(timeout=10)
    mine.join(10)
    assert threading.active_count() == threads
