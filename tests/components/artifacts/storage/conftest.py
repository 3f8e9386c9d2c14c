"""A real S3 server of the tests' own, and a proxy in front of it that does to HTTP what networks do."""

import http.client
import http.server
import random
import socket
import struct
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

from components.artifacts.storage import _conformance
from components.artifacts.store import Store
from components.settings import Settings


@pytest.fixture
def prefix() -> str:
    """A prefix of the test's own."""
    return uuid.uuid4().hex


@pytest.fixture
def s3_settings(
    s3_environment: Mapping[str, str], prefix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Settings:
    """Settings whose store is the real server."""
    for name, value in s3_environment.items():
        monkeypatch.setenv(name, value)
    # Each test has places of its own, which would all be probed at length: the server's losers wait for seconds.
    monkeypatch.setattr(_conformance, "NUM_WRITERS", 2)
    monkeypatch.setattr(_conformance, "NUM_ROUNDS", 1)
    return Settings(
        var_dir=tmp_path / "var",
        store=f"s3://potstill/{prefix}",
        num_threads=1,
        device="cpu",
        store_deadline_seconds=30,
    )


@pytest.fixture
def s3_store(s3_settings: Settings) -> Store:
    return Store(s3_settings)


CODES = {"503": "SlowDown", "500": "InternalError", "404": "NoSuchUpload"}


class FaultProxy(http.server.ThreadingHTTPServer):
    """Passes requests on to *upstream*, or does with one what `decide(method, path)` names."""

    daemon_threads = True
    request_queue_size = 64

    def __init__(self, upstream: str) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.upstream = upstream.removeprefix("http://")
        self.decide: Callable[[str, str], str] = lambda method, path: "pass"
        self.done: Counter[str] = Counter()
        self.stopped = threading.Event()

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def always(self, fault: str, *, only: Callable[[str, str], bool] = lambda method, path: True) -> None:
        self.decide = lambda method, path: fault if only(method, path) else "pass"

    def first(self, fault: str, count: int, *, only: Callable[[str, str], bool] = lambda method, path: True) -> None:
        """The first *count* requests that *only* chooses."""
        left = [fault] * count
        self.decide = lambda method, path: left.pop() if left and only(method, path) else "pass"

    def sometimes(self, faults: tuple[str, ...], *, seed: int, share: float) -> None:
        dice = random.Random(seed)
        self.decide = lambda method, path: dice.choice(faults) if dice.random() < share else "pass"

    def handle_error(self, request, client_address) -> None:
        """A client that gave up is what these tests are about."""


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: FaultProxy

    def handle_one_request(self) -> None:
        self.raw_requestline = self.rfile.readline(65537)
        if not self.raw_requestline:
            self.close_connection = True
        elif self.parse_request():
            self._serve()

    def _serve(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        fault = self.server.decide(self.command, self.path)
        self.server.done[fault] += 1
        if fault in CODES:
            page = f"<Error><Code>{CODES[fault]}</Code><Message>as the test wants it</Message></Error>".encode()
            self._answer(int(fault), [("Content-Type", "application/xml")], page)
        elif fault == "portal":
            self._answer(200, [("Content-Type", "text/html")], b"<html>please log in</html>")
        elif fault == "page":
            self._answer(404, [("Content-Type", "text/html")], b"<html>nothing here</html>")
        elif fault == "stall":
            self.server.stopped.wait(60)
            self.close_connection = True
        elif fault == "reset":
            self._reset()
        else:
            if fault == "delay":
                time.sleep(0.3)
            if fault == "flip up" and body:
                body = _flipped(body)
            self._pass_on(body, fault)

    def _pass_on(self, body: bytes, fault: str) -> None:
        connection = http.client.HTTPConnection(self.server.upstream, timeout=60)
        try:
            connection.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
            for name, value in self.headers.items():
                if name.lower() not in ("expect", "connection"):
                    connection.putheader(name, value)
            connection.endheaders(body)
            answer = connection.getresponse()
            content = answer.read()
            headers = [(n, v) for n, v in answer.getheaders() if n.lower() not in ("connection", "transfer-encoding")]
        finally:
            connection.close()
        if fault == "lost":
            self._reset()
        elif fault == "win" and answer.status == 412:
            self._answer(200, [("ETag", '"0"')], b"")
        elif fault == "flip" and content:
            self._answer(answer.status, headers, _flipped(content))
        elif fault in ("cut", "cut and reset", "drip") and content:
            self._answer_partly(answer.status, headers, content, fault)
        else:
            self._answer(answer.status, headers, content)

    def _answer(self, status: int, headers: list[tuple[str, str]], content: bytes) -> None:
        self._head(status, headers, len(content))
        if self.command != "HEAD":
            self.wfile.write(content)

    def _answer_partly(self, status: int, headers: list[tuple[str, str]], content: bytes, fault: str) -> None:
        self._head(status, headers, len(content))
        if fault == "drip":
            for byte in content:
                self.wfile.write(bytes([byte]))
                if self.server.stopped.wait(0.2):
                    break
        else:
            self.wfile.write(content[: len(content) // 2])
        if fault == "cut and reset":
            self._reset()
        self.close_connection = True

    def _head(self, status: int, headers: list[tuple[str, str]], num_bytes: int) -> None:
        self.send_response_only(status)
        for name, value in headers:
            if name.lower() != "content-length" or self.command == "HEAD":
                self.send_header(name, value)
        if self.command != "HEAD" and status != 204:
            self.send_header("Content-Length", str(num_bytes))
        self.end_headers()

    def _reset(self) -> None:
        """Close so that the other side gets a reset, as from a crashed machine."""
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.wfile.flush()
        self.connection.close()
        self.close_connection = True
        self.rfile.close()

    def log_message(self, *_: object) -> None:
        """Nothing on the terminal."""


def _flipped(body: bytes) -> bytes:
    place = len(body) * 2 // 3
    return body[:place] + bytes([body[place] ^ 0x10]) + body[place + 1 :]


@pytest.fixture
def proxy(seaweed: str, s3_settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultProxy]:
    """A proxy in front of the server; stores opened after this talk to the proxy."""
    server = FaultProxy(seaweed)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    monkeypatch.setenv("AWS_ENDPOINT_URL", server.endpoint)
    yield server
    server.stopped.set()
    server.shutdown()
    server.server_close()
    thread.join()
