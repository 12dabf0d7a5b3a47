"""The far end of a proxied request, played by the test itself.

A stand-in and not a real engine or service: it must break off, stay silent or send half an event at a moment that the
test chooses, and must see exactly which bytes arrive and when the connection ends. Blocking sockets with time-outs:
every wait is for a condition.
"""

import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager

PATIENCE_SECONDS = 5.0


class Exchange:
    """One connection, and the request that came over it."""

    def __init__(self, connection: socket.socket) -> None:
        connection.settimeout(PATIENCE_SECONDS)
        self.connection = connection
        self.request_line = ""
        self.headers: dict[str, str] = {}

    def read_head(self) -> None:
        """Take the request's head, and nothing of its body."""
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            byte = self.connection.recv(1)
            assert byte, f"the connection ended in the head: {head!r}"
            head += byte
        self.request_line, *lines = head.decode("latin-1").split("\r\n")[:-2]
        self.headers = {name.lower(): value for name, value in (line.split(": ", 1) for line in lines)}

    def read(self, size: int) -> bytes:
        """Exactly so many bytes of the body."""
        data = b""
        while len(data) < size:
            piece = self.connection.recv(size - len(data))
            assert piece, f"the connection ended after {len(data)} of {size} bytes"
            data += piece
        return data

    def read_body(self) -> bytes:
        """The whole body, of the length that the head announced."""
        return self.read(int(self.headers["content-length"]))

    def send(self, data: bytes) -> None:
        """These bytes, now."""
        self.connection.sendall(data)

    def reply(self, body: bytes, *head: str, status: str = "200 OK", kind: str = "application/json") -> None:
        """A whole answer."""
        lines = [f"HTTP/1.1 {status}", f"content-type: {kind}", f"content-length: {len(body)}", *head, "", ""]
        self.send("\r\n".join(lines).encode("latin-1") + body)

    def begin_events(self) -> None:
        """The head of a stream of events."""
        self.send(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n")

    def chunk(self, data: bytes) -> None:
        """A piece of a chunked body; an empty one ends it."""
        self.send(f"{len(data):x}\r\n".encode() + data + b"\r\n")

    def die(self) -> None:
        """End the connection as a killed process does."""
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.connection.close()

    def sees_the_end(self) -> bool:
        """Whether the other side closes the connection, within PATIENCE_SECONDS."""
        try:
            while self.connection.recv(65536):
                pass
        except ConnectionError:
            return True
        except TimeoutError:
            return False
        return True


class Wire:
    """Listens on a free port; the test takes the requests one by one."""

    def __init__(self) -> None:
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.listener.settimeout(PATIENCE_SECONDS)
        self.port = int(self.listener.getsockname()[1])
        self.url = f"http://127.0.0.1:{self.port}"
        self.taken: list[Exchange] = []

    def take(self) -> Exchange:
        """The next connection's request, its head read."""
        exchange = Exchange(self.listener.accept()[0])
        self.taken.append(exchange)
        exchange.read_head()
        return exchange


@contextmanager
def wire() -> Iterator[Wire]:
    """Such a far end, its connections closed when the block ends."""
    far = Wire()
    try:
        yield far
    finally:
        far.listener.close()
        for exchange in far.taken:
            exchange.connection.close()
