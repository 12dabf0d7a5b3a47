"""What a run cost: the platform's peak memory, and the disk it takes."""

import threading
from pathlib import Path

from hearth_local.paths import envs_folder
from hearth_local.platform import Platform
from hearth_local.text import gib

SAMPLE_SECONDS = 1.0


class UsageMeter:
    """Samples the platform's memory once a second."""

    def __init__(self, platform: Platform) -> None:
        self.platform = platform
        self.peak_bytes = 0
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._sample, daemon=True)

    def __enter__(self) -> "UsageMeter":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _sample(self) -> None:
        while not self._over.wait(SAMPLE_SECONDS):
            self.peak_bytes = max(self.peak_bytes, self.platform.memory_bytes())

    def summary(self, seconds: float) -> str:
        """One line for people: total time, peak memory, disk."""
        data, environments = folder_bytes(self.platform.home), folder_bytes(envs_folder())
        return (
            f"[bold]Total time[/] {seconds / 60:.1f} min, [bold]peak memory[/] {gib(self.peak_bytes)}, "
            f"[bold]disk[/] {gib(data)} data ({self.platform.home}) + {gib(environments)} environments"
        )


def folder_bytes(folder: Path) -> int:
    """Bytes on disk below a folder; a file with several names (hard links) counts once."""
    seen: set[tuple[int, int]] = set()
    total = 0
    for path in folder.rglob("*"):
        try:
            status = path.lstat()
        except FileNotFoundError:
            continue  # a running platform removes files while we look
        if (status.st_dev, status.st_ino) not in seen:
            seen.add((status.st_dev, status.st_ino))
            total += status.st_blocks * 512
    return total
