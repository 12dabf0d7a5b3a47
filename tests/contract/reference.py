"""The reference, read: each request as it is printed there, and what its reply must look like."""

import json
import re
import shlex
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID

TEXT = Path(__file__).with_name("reference.txt")
HOST = "http://localhost:8080"
_HEADING = re.compile(r"^(GET|POST) (/v1/\S+)$", re.MULTILINE)
_UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3,6}Z?")
_OURS = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}")  # six digits and no zone, as most of the reference has it
_JOB_NAME = re.compile(r"(DOWNLOAD_|DEPLOY_|FT_|IMPORT_)\S+")  # the last kind is Hearth's own
_STATES = {"CREATED", "RUNNING", "FINISHED", "FAILED", "KILLED"}
_IDS = re.compile(r"(cmpl|chatcmpl|embd|infinity)-[\w-]+")


@dataclass(frozen=True)
class Request:
    """One request of the reference."""

    name: str  # `POST /v1/models/add/`
    curl: str  # the command, as printed
    schema: Any  # the example reply; None where it is a file


def requests() -> dict[str, Request]:
    """Every request, by name, in the reference's order."""
    parts = _HEADING.split(TEXT.read_text(encoding="utf-8"))[1:]
    found = {}
    for method, path, text in zip(parts[::3], parts[1::3], parts[2::3], strict=True):
        curl = text[text.index("curl -X") : text.index("Response schema:")].strip()
        name = f"{method} {path}"
        found[name] = Request(name, curl, _schema(text.partition("Response schema:")[2]))
    return found


def _schema(text: str) -> Any:
    """The JSON that begins the text, the reference's `...` for more of a list left out."""
    start = re.search(r"^[\[{]", text, re.MULTILINE)
    if start is None:
        return None
    text = re.sub(r",\s*\.\.\.\s*(?=\])", "", text[start.start() :])
    return json.JSONDecoder(strict=False).raw_decode(text)[0]


def run(curl: str, url: str, replace: dict[str, str], cwd: Path) -> tuple[int, str]:
    """Run the command with only its host and the ids that `replace` names changed; the reply's status and body."""
    command = curl.replace(HOST, url)
    for old, new in replace.items():
        assert old in command, f"{old!r} is not in {curl!r}"
        command = command.replace(old, new)
    words = [*shlex.split(command.replace("\\\n", " ")), "--silent", "--show-error", "--write-out", "\n%{http_code}"]
    done = subprocess.run(words, capture_output=True, text=True, cwd=cwd, timeout=120, check=True)
    body, _, status = done.stdout.rpartition("\n")
    return int(status), body


def faults(example: Any, given: Any, where: str = "") -> list[str]:
    """Where a reply is not as the example: a field missing, of another type or another form. More fields may follow."""
    if isinstance(example, dict):
        if not isinstance(given, dict):
            return [f"{where} is {given!r}, not an object"]
        missing = [f"{where}.{name} is missing" for name in example if name not in given]
        parts = [faults(value, given[name], f"{where}.{name}") for name, value in example.items() if name in given]
        return [*missing, *(fault for part in parts for fault in part)]
    if isinstance(example, list):
        if not isinstance(given, list) or not given:
            return [f"{where} is {given!r}, not a list with something in it"]
        parts = [faults(example[0], entry, f"{where}[{index}]") for index, entry in enumerate(given)]
        return [fault for part in parts for fault in part]
    return [] if _fits(example, given, where) else [f"{where} is {given!r}, not like {example!r}"]


def _fits(example: Any, given: Any, where: str) -> bool:
    field = where.rpartition(".")[2]
    if example is None or field in ("base_model_id", "description"):  # the reference shows both null and text
        return given is None or isinstance(given, str | int | dict)
    if isinstance(example, bool | int | float):
        kinds = (bool,) if isinstance(example, bool) else (int, float) if isinstance(example, float) else (int,)
        return isinstance(given, kinds) and isinstance(given, bool) == isinstance(example, bool)
    if not isinstance(given, str):
        return False
    if field == "status":
        return given in _STATES
    if _TIME.fullmatch(example):
        return bool(_OURS.fullmatch(given))
    if _UUID.fullmatch(example):
        return str(UUID(given)) == given
    if _JOB_NAME.match(example):
        return bool(_JOB_NAME.match(given))
    if field == "s3_path":
        return given == f"{given[:36]}/metadata.json"
    if field == "object":
        return given == example
    return bool(_IDS.fullmatch(given)) if _IDS.fullmatch(example) else bool(given) or field in ("text", "content")
