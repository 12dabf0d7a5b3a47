"""Clients that ask without a pause, and what each of them saw."""

import threading
import time
from dataclasses import dataclass

import httpx


@dataclass
class Outcome:
    """One request: what its client saw."""

    whole: bool = False
    events: int = 0  # of a stream, those with tokens
    seconds: float = 0.0
    words: str = ""


class Load:
    """Clients that ask for completions one after another, half of them as streams; two engines get both kinds."""

    def __init__(self, url: str, clients: int, key: str = "") -> None:
        self.url = url
        self.headers = {"authorization": f"Bearer {key}"} if key else {}
        self.outcomes: list[Outcome] = []
        self._over = threading.Event()
        self._threads = [
            threading.Thread(target=self._client, args=[number % 4 in (1, 2)]) for number in range(clients)
        ]

    def __enter__(self) -> "Load":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join()

    def _client(self, stream: bool) -> None:
        with httpx.Client(base_url=self.url, headers=self.headers, timeout=60, trust_env=False) as http:
            while not self._over.is_set():
                outcome = Outcome()
                self._ask(http, stream, outcome)
                self.outcomes.append(outcome)

    @staticmethod
    def _ask(http: httpx.Client, stream: bool, outcome: Outcome) -> None:
        body = {"model": "Compressa-LLM", "prompt": "Hello", "max_tokens": 60, "ignore_eos": True, "stream": stream}
        said, began = b"", time.monotonic()
        try:
            with http.stream("POST", "/v1/completions", json=body) as reply:
                for piece in reply.iter_raw():
                    said += piece
            outcome.whole = reply.status_code == 200 and (not stream or said.endswith(b"data: [DONE]\n\n"))
        except httpx.HTTPError as error:
            outcome.words = repr(error)
        outcome.seconds = time.monotonic() - began
        outcome.events = said.count(b'"choices":[{')
        outcome.words += said[-200:].decode()
