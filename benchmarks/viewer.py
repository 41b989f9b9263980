"""How fast the viewer's server sends tiles, over HTTP: passed on, decoded and encoded, by DeepZoom.

    python benchmarks/viewer.py
    python benchmarks/viewer.py --quick

512² JPEG tiles of level 0 of a made slide in CAMELYON's layout (see slides_made.py), page cache
warm, none from a cache of ours: all of them eight times where they are passed on, some 200 where
not. The server is a process on one core, the client on another; its six connections are those of a
browser. The rivals answer behind the same uvicorn:

* passed on: `wsi-ncmi view`, which sends the file's own bytes;
* decoded and encoded: the same application without that, as for other codecs;
* openslide.deepzoom: DeepZoomGenerator with tiles as the file has them (512², no overlap: its best
  case, for no tile is cut), and Pillow's JPEG at its example's quality, 75.

A first view is what a browser needs of a slide that nobody has opened: its facts, and all tiles of
the levels up to 2048 px; of a BigTIFF of 100,000 x 100,000 px whose tiles are all one JPEG (see
sparse_slide.py). Prints tiles per second, latencies and ratios, writes results/viewer-cpu.json.
"""

import argparse
import asyncio
import io
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import torch
from measure import RESULTS, record
from openslide import OpenSlide
from openslide.deepzoom import DeepZoomGenerator
from slides_made import LAYOUTS, QUALITY, tissue_pattern, write_slide
from sparse_slide import TILE, write_sparse
from starlette.types import ASGIApp, Receive, Scope, Send

from wsi_ncmi.tools.view import command, shown
from wsi_ncmi.tools.view.guard import respond
from wsi_ncmi.tools.view.source import Json, SlidePlace

PASSED, DECODED, DEEPZOOM = "passed on", "decoded and encoded", "openslide.deepzoom"
TOKEN, LARGE = "benchmark", 100_000
CONNECTIONS, REPEATS = 6, 8
VIEW_PX = 2048
CPU = torch.device("cpu")


@dataclass(frozen=True)
class Slides:
    """A source of slides by themselves."""

    folder: Path
    name: str = "benchmark"

    def overview(self) -> Json:
        return {}

    def slides(self) -> list[Json]:
        return []

    def predictions(self, task: str, arm: str) -> Json | None:
        return None

    def place(self, slide_id: str) -> SlidePlace:
        return SlidePlace(slide_id, str(self.folder / f"{slide_id}.tif"), 0.25)


def deepzoom(path: Path) -> ASGIApp:
    """DeepZoom behind ASGI, in threads, as OpenSlide's own example serves it behind Flask."""
    generator = DeepZoomGenerator(OpenSlide(str(path)), TILE, 0)
    finest = generator.level_count - 1

    def tile(column: int, row: int) -> bytes:
        buffer = io.BytesIO()
        generator.get_tile(finest, (column, row)).save(buffer, "JPEG", quality=QUALITY)
        return buffer.getvalue()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        column, row = map(int, scope["path"].rsplit("/", 1)[1].removesuffix(".jpg").split("_"))
        body = await asyncio.get_running_loop().run_in_executor(None, tile, column, row)
        await respond(send, 200, body, b"image/jpeg")

    return app


def serve(way: str, folder: Path, core: int) -> None:
    """In a process of its own, until it is ended: a server on one core."""
    os.sched_setaffinity(0, {core})
    listening = command.listen(0)
    port = listening.getsockname()[1]
    if way == DEEPZOOM:
        app = deepzoom(folder / "camelyon.tif")
    else:
        app = command.application(Slides(folder), {}, TOKEN, port)
    if way == DECODED:
        shown.stored_jpeg = lambda *_, **__: None  # type: ignore[assignment]
        shown.ByteCache.put = lambda *_: None  # type: ignore[assignment, method-assign]
    address = f"http://127.0.0.1:{port}/"
    command.Server(command.server_config(app), address, browse=False).run(sockets=[listening])


@dataclass
class Server:
    """A rival that runs."""

    port: int
    process: psutil.Process

    @property
    def cpu_seconds(self) -> float:
        times = self.process.cpu_times()
        return float(times.user + times.system)


@contextmanager
def running(way: str, folder: Path, core: int) -> Iterator[Server]:
    given = ["--serve", way, "--folder", str(folder), "--core", str(core)]
    process = subprocess.Popen(
        [sys.executable, __file__, *given], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    try:
        line = process.stdout.readline()
        yield Server(int(line.rstrip("/\n").rsplit(":", 1)[1]), psutil.Process(process.pid))
    finally:
        process.kill()
        process.wait()


class Connection:
    """One of a browser's: asks, and waits for the whole answer."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.socket = socket.create_connection(("127.0.0.1", port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def get(self, path: str) -> bytes:
        request = f"GET /{TOKEN}/{path} HTTP/1.1\r\nHost: 127.0.0.1:{self.port}\r\n\r\n"
        self.socket.sendall(request.encode())
        found = bytearray()
        while (end := found.find(b"\r\n\r\n")) < 0:
            found += self._more()
        head = bytes(found[:end]).lower()
        assert head.startswith(b"http/1.1 200"), head[:200]
        start = head.index(b"content-length: ") + 16
        whole = end + 4 + int(head[start:].split(b"\r\n")[0])
        while len(found) < whole:
            found += self._more()
        return bytes(found[end + 4 :])

    def _more(self) -> bytes:
        part = self.socket.recv(1 << 20)
        assert part, "the server closed the connection"
        return part


@dataclass
class Fetched:
    """What came of many requests."""

    seconds: float
    latencies: list[float] = field(default_factory=list)
    size: int = 0


def fetch(port: int, paths: Sequence[str], connections: int = CONNECTIONS) -> Fetched:
    """Get all paths over some connections, each of which takes the next path when it has one."""
    waiting, found = iter(paths), Fetched(0)
    turn = threading.Lock()

    def work(connection: Connection) -> None:
        while True:
            with turn:
                path = next(waiting, None)
            if path is None:
                return
            start = time.perf_counter()
            size = len(connection.get(path))
            found.latencies.append(time.perf_counter() - start)
            found.size += size

    opened = [Connection(port) for _ in range(connections)]
    threads = [threading.Thread(target=work, args=[one]) for one in opened]
    start = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found.seconds = time.perf_counter() - start
    return found


def tile_paths(side: int, slide_id: str = "camelyon", level: int = 0) -> list[str]:
    count = -(-side // TILE)
    places = [(column, row) for row in range(count) for column in range(count)]
    return [f"slides/{slide_id}/tiles/{level}/{column}_{row}.jpg" for column, row in places]


def measure_tiles(folder: Path, side: int, rounds: int, cores: Sequence[int]) -> dict[str, Any]:
    """Every rival in turn, round after round; of the slow ones fewer tiles."""
    paths = tile_paths(side)
    each: dict[str, list[dict[str, float]]] = {way: [] for way in (PASSED, DECODED, DEEPZOOM)}
    with ExitStack() as stack:
        servers = {way: stack.enter_context(running(way, folder, cores[0])) for way in each}
        os.sched_setaffinity(0, {cores[-1]})
        for server in servers.values():
            fetch(server.port, paths[:50])  # imports, the slide is opened
        for _ in range(rounds):
            for way, server in servers.items():
                own = paths * REPEATS if way == PASSED else paths[:: max(1, len(paths) // 200)]
                each[way].append(_measured(server, own))
    return {way: _median(way, found) for way, found in each.items()}


def _measured(server: Server, paths: Sequence[str]) -> dict[str, float]:
    before = server.cpu_seconds
    found = fetch(server.port, paths)
    spent = server.cpu_seconds - before
    alone = fetch(server.port, paths[:200], connections=1)
    return {
        "tiles_per_s": len(paths) / found.seconds,
        "tiles_per_cpu_s": len(paths) / spent,
        "kb": found.size / len(paths) / 1e3,
        "median_ms": 1e3 * statistics.median(found.latencies),
        "p99_ms": 1e3 * float(np.quantile(found.latencies, 0.99)),
        "alone_median_ms": 1e3 * statistics.median(alone.latencies),
        "alone_p99_ms": 1e3 * float(np.quantile(alone.latencies, 0.99)),
    }


def _median(way: str, rounds: Sequence[dict[str, float]]) -> dict[str, Any]:
    return {key: statistics.median(one[key] for one in rounds) for key in rounds[0]} | {
        "each": list(rounds)
    }


def ratio(tiles: dict[str, Any], way: str, rival: str, key: str) -> float:
    """How many times as many tiles: the median over rounds of the two values of a round."""
    pairs = zip(tiles[way]["each"], tiles[rival]["each"], strict=True)
    return statistics.median(one[key] / other[key] for one, other in pairs)


def measure_first_view(folder: Path, side: int, views: int, cores: Sequence[int]) -> dict[str, Any]:
    """Seconds from the first request about a slide to the last tile of its first view."""
    first = write_sparse(folder / "large0.tif", side)
    for number in range(1, views + 1):
        os.link(first, folder / f"large{number}.tif")
    taken, tiles = [], 0
    with running(PASSED, folder, cores[0]) as server:
        os.sched_setaffinity(0, {cores[-1]})
        fetch(server.port, ["slides/large0/info.json"])  # imports
        for number in range(1, views + 1):
            start = time.perf_counter()
            info = json.loads(Connection(server.port).get(f"slides/large{number}/info.json"))
            paths = view_paths(info)
            fetch(server.port, paths)
            taken.append(time.perf_counter() - start)
            tiles = len(paths)
    return {
        "side": side,
        "mb": first.stat().st_size / 1e6,
        "tiles": tiles,
        "seconds": statistics.median(taken),
        "each": taken,
    }


def view_paths(info: Json) -> list[str]:
    """The tiles of the levels that show the whole slide on a screen, the coarsest first."""
    found = []
    for number, level in reversed([*enumerate(info["levels"])]):
        if level["width"] <= VIEW_PX or number == len(info["levels"]) - 1:
            places = [(c, r) for r in range(level["rows"]) for c in range(level["columns"])]
            found += [f"slides/{info['id']}/tiles/{number}/{c}_{r}.jpg" for c, r in places]
    return found


def show(results: dict[str, Any]) -> None:
    for way, found in results["tiles"].items():
        rates = f"{found['tiles_per_s']:7.0f} tiles/s {found['tiles_per_cpu_s']:7.0f} per CPU s"
        busy = f"{found['median_ms']:6.2f} ms median {found['p99_ms']:6.2f} p99"
        alone = f"alone {found['alone_median_ms']:6.2f}, {found['alone_p99_ms']:6.2f}"
        print(f"{way:20} {rates}  {found['kb']:5.0f} kB  {busy}; {alone}")
    for name, value in results["ratios"].items():
        print(f"{name}: {value:.1f}")
    view = results["first_view"]
    print(
        f"first view of {view['side']} x {view['side']} px, {view['tiles']} tiles: "
        f"{view['seconds']:.3f} s (longest {max(view['each']):.3f})"
    )


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help="small slides, to try it out")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder of the JSON file")
    for name, kind in (("serve", str), ("folder", Path), ("core", int)):
        parser.add_argument(f"--{name}", type=kind, help=argparse.SUPPRESS)
    args = parser.parse_args(arguments)
    if args.serve:
        serve(args.serve, args.folder, args.core)
        return
    pattern, cores = tissue_pattern(), sorted(os.sched_getaffinity(0))
    count = 8 if args.quick else 32
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_slide(folder / "camelyon.tif", LAYOUTS["camelyon"], pattern, (count, count))
        tiles = measure_tiles(folder, count * TILE, args.rounds, cores)
        side = 20_000 if args.quick else LARGE
        view = measure_first_view(folder, side, 2 if args.quick else 10, cores)
    os.sched_setaffinity(0, cores)  # the machine is described with all of its cores
    ratios = {
        f"{PASSED} / {rival}, {key}": ratio(tiles, PASSED, rival, key)
        for rival in (DECODED, DEEPZOOM)
        for key in ("tiles_per_s", "tiles_per_cpu_s")
    }
    results = {"tiles": tiles, "ratios": ratios, "first_view": view}
    show(results)
    content = {"content": pattern.source, "quick": args.quick, **results}
    print(record("viewer", CPU, content, args.out))


if __name__ == "__main__":
    main()
