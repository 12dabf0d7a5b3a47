"""Files to upload, and the sending of them at next to no cost to the sender."""

import json
import random
import socket
from dataclasses import dataclass
from pathlib import Path

WORDS = ["the", "model", "answers", "each", "question", "with", "care", "and", "names", "what", "it", "does", "not"]
BOUNDARY = "------------------------d74496d66958873e"
"""As curl writes one; a short one takes longer to look for."""

VARIETY = 4_000
"""Different rows; a file is made of them in a random order."""


def make_file(path: Path, size: int, seed: int = 1) -> int:
    """Conversations of about a kilobyte each, at least `size` bytes in all. The number of bytes."""
    rng = random.Random(seed)
    rows = [_row(rng, number) for number in range(VARIETY)]
    written = 0
    with path.open("wb") as file:
        while written < size:
            rng.shuffle(rows)
            written += file.write(b"".join(rows))
        file.truncate(written)
    return written


def _row(rng: random.Random, number: int) -> bytes:
    def said(words: int) -> str:
        return " ".join(rng.choices(WORDS, k=words))

    turns = [
        {"role": "user", "content": f"{number}: {said(30)}?"},
        {"role": "assistant", "content": said(60)},
        {"role": "user", "content": said(20)},
        {"role": "assistant", "content": said(60)},
    ]
    return json.dumps({"messages": turns}).encode() + b"\n"


@dataclass(frozen=True)
class Reply:
    """What was answered."""

    status: int
    body: bytes


def send(port: int, path: str, file: Path) -> Reply:
    """POST a file as multipart/form-data. The kernel copies it from file to socket: no client is cheaper."""
    head = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="file"; filename="big.jsonl"\r\n\r\n'.encode()
    tail = f"\r\n--{BOUNDARY}--\r\n".encode()
    length = len(head) + file.stat().st_size + len(tail)
    request = (
        f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n"
        f"Content-Type: multipart/form-data; boundary={BOUNDARY}\r\nContent-Length: {length}\r\n\r\n"
    )
    with socket.create_connection(("127.0.0.1", port)) as connection, file.open("rb") as source:
        connection.sendall(request.encode() + head)
        connection.sendfile(source)
        connection.sendall(tail)
        answer = b"".join(iter(lambda: connection.recv(65536), b""))
    first, _, rest = answer.partition(b"\r\n\r\n")
    return Reply(int(first.split()[1]), rest)
