"""A local S3 server (moto) behind a proxy that fails as networks and servers do."""

import hashlib
import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import boto3
import pytest
from moto.moto_server.threaded_moto_server import ThreadedMotoServer

BUCKET = "camelyon-dataset"
Fault = Callable[["Handler", int, dict[str, str], bytes], bool]


class Handler(BaseHTTPRequestHandler):
    """Passes requests on; a GET first meets the fault that is set, if any is left."""

    server: "Proxy"
    protocol_version = "HTTP/1.1"

    def do_HEAD(self) -> None:
        self.pass_on()

    def do_GET(self) -> None:
        self.pass_on()

    def pass_on(self) -> None:
        behind = HTTPConnection(*self.server.behind)
        headers = {"Range": self.headers["Range"]} if self.headers["Range"] else {}
        behind.request(self.command, self.path, headers=headers)
        answer = behind.getresponse()
        body = answer.read()
        kept = ("content-length", "etag", "content-range", "last-modified", "accept-ranges")
        found = {k: v for k, v in answer.getheaders() if k.lower() in kept}
        behind.close()
        with self.server.lock:
            self.server.seen.append((self.command, self.headers["Range"] or ""))
            fault = self.server.faults.pop(0) if self.is_part and self.server.faults else None
        if fault is None or not fault(self, answer.status, found, body):
            self.answer(answer.status, found, body)

    @property
    def is_part(self) -> bool:
        return self.command == "GET" and bool(self.headers["Range"])

    def answer(self, status: int, headers: dict[str, str], body: bytes) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Silence."""


class Proxy(ThreadingHTTPServer):
    """The server that is spoken to.

    Attributes:
        faults: of the next GETs, one each; seen: (method, range) of every request.
    """

    daemon_threads = True

    def __init__(self, behind: tuple[str, int]) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.behind = behind
        self.lock = threading.Lock()
        self.faults: list[Fault] = []
        self.seen: list[tuple[str, str]] = []

    def handle_error(self, *_: Any) -> None:
        """Silence: a client was killed, or the connection cut."""

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    @property
    def parts(self) -> list[str]:
        """Ranges that were asked for."""
        return [where for method, where in self.seen if method == "GET"]

    def put(self, key: str, body: bytes, public: bool = True) -> str:
        """Store an object; its MD5."""
        client(self.behind).put_object(
            Bucket=BUCKET, Key=key, Body=body, ACL="public-read" if public else "private"
        )
        return hashlib.md5(body).hexdigest()


def cut(handler: Handler, status: int, headers: dict[str, str], body: bytes) -> bool:
    """The connection breaks off after half of the bytes."""
    handler.answer(status, headers, body[: len(body) // 2])
    handler.close_connection = True
    handler.connection.close()
    return True


def short(handler: Handler, status: int, headers: dict[str, str], body: bytes) -> bool:
    """A whole answer of too few bytes."""
    less = body[:-100]
    handler.answer(status, {**headers, "Content-Length": str(len(less))}, less)
    return True


def wrong(handler: Handler, status: int, headers: dict[str, str], body: bytes) -> bool:
    """As many bytes, others."""
    handler.answer(status, headers, bytes([body[0] ^ 1]) + body[1:])
    return True


def busy(handler: Handler, status: int, headers: dict[str, str], body: bytes) -> bool:
    """503, as S3 answers to too many requests."""
    handler.answer(503, {"Content-Length": "0"}, b"")
    return True


def stalled(handler: Handler, status: int, headers: dict[str, str], body: bytes) -> bool:
    """No byte for longer than is waited."""
    time.sleep(1.5)
    handler.close_connection = True
    return True


def slow(handler: Handler, status: int, headers: dict[str, str], body: bytes) -> bool:
    """The right bytes, late."""
    time.sleep(0.3)
    return False


def client(address: tuple[str, int]) -> Any:
    return boto3.client(
        "s3",
        endpoint_url=f"http://{address[0]}:{address[1]}",
        region_name="us-east-1",
        aws_access_key_id="none",
        aws_secret_access_key="none",
    )


@contextmanager
def moto() -> Iterator[tuple[str, int]]:
    """A server with the bucket; its address."""
    logging.getLogger("werkzeug").setLevel(logging.WARNING)  # it says every request
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    address = server.get_host_and_port()
    client(address).create_bucket(Bucket=BUCKET)
    yield address
    server.stop()


@contextmanager
def before(address: tuple[str, int]) -> Iterator[Proxy]:
    """The proxy before a server."""
    proxy = Proxy(address)
    thread = threading.Thread(target=proxy.serve_forever, daemon=True)
    thread.start()
    yield proxy
    proxy.shutdown()
    proxy.server_close()


@contextmanager
def running() -> Iterator[Proxy]:
    """A server of its own, and the proxy before it."""
    with moto() as address, before(address) as proxy:
        yield proxy


@pytest.fixture(scope="session")
def moto_address() -> Iterator[tuple[str, int]]:
    with moto() as address:
        yield address


@pytest.fixture
def s3(moto_address: tuple[str, int]) -> Iterator[Proxy]:
    with before(moto_address) as proxy:
        yield proxy
