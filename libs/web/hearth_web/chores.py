"""Work that comes again and again beside what a service answers."""

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

log = logging.getLogger(__name__)


@contextmanager
def repeated(chore: Callable[[], None], seconds: float) -> Iterator[None]:
    """While the block lasts, do it at once and then every so many seconds, in a thread; a failure is logged, and the
    next time tries again.
    """
    over = threading.Event()

    def repeat() -> None:
        while True:
            try:
                chore()
            except Exception as error:
                log.warning("%s was not done: %s", chore.__name__, error)
            if over.wait(seconds):
                return

    threading.Thread(target=repeat, name=chore.__name__, daemon=True).start()
    try:
        yield
    finally:
        over.set()
