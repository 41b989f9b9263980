"""The server itself, a process of its own, over sockets."""

import asyncio
import re
import resource
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest
from made_view import PAGE, SLIDE

from wsi_ncmi.errors import UserError
from wsi_ncmi.tools.view.command import listen

SERVE = """
import sys
from pathlib import Path
from wsi_ncmi.tools.view import command
from wsi_ncmi.tools.view.given import Given, source_of
source, settings = source_of(Given(sys.argv[1]))
page = {"index.html": Path(sys.argv[2]).read_bytes()}
command.serve(source, page, settings, 0, browse=False, remote=False)
"""
FILES = 1024
"""Descriptors of the server: fewer than it is sent connections."""

CONNECTIONS, EACH = 1250, 8


@dataclass
class Running:
    """A server."""

    process: subprocess.Popen[str]
    address: str

    @property
    def port(self) -> int:
        return int(self.address.split(":")[2].split("/")[0])

    @property
    def token(self) -> str:
        return self.address.rstrip("/").rsplit("/", 1)[1]

    def status(self, path: str) -> int:
        try:
            with urllib.request.urlopen(self.address + path, timeout=30) as found:
                return int(found.status)
        except urllib.error.HTTPError as error:
            return error.code


@pytest.fixture(scope="module")
def server(results: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """With few descriptors."""
    page = tmp_path_factory.mktemp("page") / "index.html"
    page.write_bytes(PAGE["index.html"])
    command = [sys.executable, "-c", SERVE, str(results), str(page)]

    def few() -> None:
        resource.setrlimit(resource.RLIMIT_NOFILE, (FILES, FILES))

    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, preexec_fn=few)
    assert process.stdout is not None
    line = process.stdout.readline().strip()
    yield Running(process, line)
    process.send_signal(signal.SIGINT)
    assert process.wait(20) == 0


def test_it_answers_on_the_loopback_alone(server: Running) -> None:
    assert re.fullmatch(r"http://127\.0\.0\.1:\d+/[\w-]{32}/", server.address)
    assert server.status("") == 200
    assert server.status(f"slides/{SLIDE}/tiles/0/0_0.jpg") == 200
    listening = [c for c in psutil.Process(server.process.pid).net_connections() if c.raddr == ()]
    assert [c.laddr.ip for c in listening] == ["127.0.0.1"]


def raw(server: Running, request: bytes, *, ends: bool = True) -> bytes:
    """The answer to bytes that no client would send.

    Args:
        ends: nothing more is sent; a server may take that for the client's going away.
    """
    with socket.create_connection(("127.0.0.1", server.port), timeout=20) as connection:
        connection.sendall(request)
        if ends:
            connection.shutdown(socket.SHUT_WR)
        found = b""
        while part := connection.recv(65_536):
            found += part
        return found


def test_requests_that_no_client_sends(server: Running) -> None:
    """Traversal that is not normalised, an absolute address, two Hosts, no HTTP at all."""
    host = f"Host: 127.0.0.1:{server.port}\r\nConnection: close\r\n"
    for target in (
        f"/{server.token}/../{server.token}/slides/../../../../etc/passwd",
        f"/{server.token}/page/../../app.py",
        f"/{server.token}/slides/%2e%2e/%2e%2e/info.json",
        f"/{server.token}/slides/\\..\\..\\etc\\passwd",
        "http://example.org/",
        "*",
        "//example.org/",
    ):
        found = raw(server, f"GET {target} HTTP/1.1\r\n{host}\r\n".encode())
        assert found.split()[1] in (b"400", b"403", b"404"), target
        assert b"root:" not in found
    twice = f"GET /{server.token}/ HTTP/1.1\r\nHost: evil.example\r\n{host}\r\n"
    assert raw(server, twice.encode()).split()[1] in (b"400", b"403")
    assert raw(server, f"GET /{server.token}/ HTTP/1.0\r\n\r\n".encode()).split()[1] == b"403"
    post = f"POST /{server.token}/ HTTP/1.1\r\n{host}Content-Length: 5\r\n\r\nhello"
    assert raw(server, post.encode()).split()[1] == b"405"
    raw(server, b"\x16\x03\x01 no HTTP at all\r\n\r\n")
    assert server.status("") == 200


def test_a_head_is_short(server: Running) -> None:
    tile = f"/{server.token}/slides/{SLIDE}/tiles/0/0_0.jpg"
    host = f"Host: 127.0.0.1:{server.port}\r\nConnection: close\r\n"
    request = f"HEAD {tile} HTTP/1.1\r\n{host}\r\n".encode()
    head, _, body = raw(server, request, ends=False).partition(b"\r\n\r\n")
    assert b"200" in head.split(b"\r\n")[0]
    assert body == b""


def test_ten_thousand_requests_at_once(server: Running) -> None:
    """Answered, or told to come later; neither threads nor memory grow without bound."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(hard, 4096)), hard))
    path = f"/{server.token}/slides/slide_01/tiles/0/%d_0.jpg"
    host = f"Host: 127.0.0.1:{server.port}\r\n"
    process = psutil.Process(server.process.pid)
    before, peak = process.memory_info().rss, {"rss": 0, "threads": 0}

    async def watch() -> None:
        while True:
            peak["rss"] = max(peak["rss"], process.memory_info().rss)
            peak["threads"] = max(peak["threads"], process.num_threads())
            await asyncio.sleep(0.05)

    async def storm() -> Counter[int]:
        watching = asyncio.create_task(watch())
        requests = (
            f"GET {path % (n % 4)} HTTP/1.1\r\n{host}\r\n".encode() for n in range(CONNECTIONS)
        )
        # The last request of each connection closes it, so that its answers end.
        found = await asyncio.gather(*(closing(server.port, request) for request in requests))
        watching.cancel()
        return sum(found, Counter())

    try:
        with ThreadPoolExecutor(1) as pool:  # a browser of other tests may have a loop in this one
            found = pool.submit(asyncio.run, storm()).result()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert set(found) <= {0, 200, 503}, found
    assert found[200] > 100, found
    assert peak["threads"] < 60, peak
    assert peak["rss"] - before < 300e6, peak
    assert server.status("data/slides.json") == 200
    assert server.status(f"slides/{SLIDE}/tiles/0/1_1.jpg") == 200


async def closing(port: int, request: bytes) -> Counter[int]:
    last = request.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")
    try:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(request * (EACH - 1) + last)
        found = await asyncio.wait_for(reader.read(-1), 120)
        writer.close()
    except OSError:  # refused, or reset while it was sending
        return Counter({0: 1})
    return Counter(int(line) for line in re.findall(rb"HTTP/1\.1 (\d{3}) ", found))


def test_nothing_was_written(server: Running, results: Path) -> None:
    """After all of the above: no file that is newer than the server."""
    started = psutil.Process(server.process.pid).create_time()
    newer = [p for p in results.rglob("*") if p.is_file() and p.stat().st_mtime > started + 1]
    assert newer == []
    opened = psutil.Process(server.process.pid).open_files()
    assert [f.path for f in opened if f.mode not in ("r", "rb")] == []


def test_a_port_that_is_taken() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(UserError, match=f"--port {port}: Address already in use; 0 takes any"):
            listen(port)


def test_the_usual_port_is_left_to_who_has_it(caplog: pytest.LogCaptureFixture) -> None:
    """A second viewer takes another one by itself."""
    with listen(None) as first, listen(None) as second:
        assert first.getsockname()[0] == second.getsockname()[0] == "127.0.0.1"
        assert first.getsockname()[1] != second.getsockname()[1]
    assert "8484 is taken" in caplog.text
