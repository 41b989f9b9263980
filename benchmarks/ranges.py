"""A slide at an address: fetched and then read, or read by ranges where it is.

    python benchmarks/ranges.py
    python benchmarks/ranges.py --quick

A slide in CAMELYON's layout (see slides_made.py) lies on a local server that answers each request
after a latency, and sends as many bytes a second as a line has, shared by all requests. Of its
tiles at 0.5 µm/px all, a tenth or eight are read: a bag, a sample, what attention shows.

"fetched": its parts, eight at a time, then native reading from the disk: what `slides.fetch` does.
"by ranges": tiffslide at the address: what happens without `slides.fetch`. "ranges in parallel":
the bytes of the same native tiles, asked for by eight threads, and decoded. Nothing in the package
does it yet: it is what a native reader of addresses would take. Prints seconds, requests and bytes,
writes results/ranges-cpu.json.
"""

import argparse
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import obstore
import tifffile
import torch
from measure import RESULTS, record
from numpy.typing import NDArray
from slides_made import LAYOUTS, grid, tissue_pattern, write_slide

from wsi_ncmi.config import Fetch
from wsi_ncmi.fetch.checksums import Expected
from wsi_ncmi.fetch.source import source_of
from wsi_ncmi.fetch.transfer import facts_of, transfer
from wsi_ncmi.files.remote import object_at, open_remote
from wsi_ncmi.slides.reader import open_slide
from wsi_ncmi.slides.stream import read_tiles

LAYOUT = LAYOUTS["camelyon"]
SIDE, TILE = 256, 512
THREADS = 8
LATENCIES_MS = (1, 20, 80)
LINE_MB_S = 100.0
Way = Callable[[str, NDArray[np.int64], Path], None]


class Handler(BaseHTTPRequestHandler):
    """One file, whole or in ranges, late and not faster than the line."""

    server: "Line"
    protocol_version = "HTTP/1.1"

    def do_HEAD(self) -> None:
        self._answer(200, self.server.content[:0], len(self.server.content))

    def do_GET(self) -> None:
        start, end = self.headers["Range"].removeprefix("bytes=").split("-")
        part = self.server.content[int(start) : int(end) + 1]
        self.server.carry(len(part))
        self._answer(206, part, len(part), int(start))

    def _answer(self, status: int, body: bytes, length: int, start: int = 0) -> None:
        time.sleep(self.server.latency)
        self.send_response(status)
        self.send_header("Content-Length", str(length))
        self.send_header("ETag", '"1"')
        self.send_header("Last-Modified", "Thu, 01 Jan 2026 00:00:00 GMT")
        if status == 206:
            whole = len(self.server.content)
            self.send_header("Content-Range", f"bytes {start}-{start + length - 1}/{whole}")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Silence."""


class Line(ThreadingHTTPServer):
    """A server with a latency in seconds and a line; counts requests and bytes."""

    daemon_threads = True

    def __init__(self, content: bytes, latency: float, megabytes: float) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.content, self.latency, self.per_byte = content, latency, 1e-6 / megabytes
        self.lock, self.free_at = threading.Lock(), 0.0
        self.requests = self.bytes = 0

    def carry(self, length: int) -> None:
        """Wait until the line has carried so many bytes after those of the others."""
        with self.lock:
            self.requests += 1
            self.bytes += length
            self.free_at = max(self.free_at, time.monotonic()) + length * self.per_byte
            until = self.free_at
        time.sleep(max(0.0, until - time.monotonic()))


@contextmanager
def serving(content: bytes, latency: float) -> Iterator[Line]:
    line = Line(content, latency, LINE_MB_S)
    threading.Thread(target=line.serve_forever, daemon=True).start()
    yield line
    line.shutdown()
    line.server_close()


def fetched(address: str, coords: NDArray[np.int64], folder: Path) -> None:
    settings, path = Fetch(connections=THREADS), folder / "copy.tif"
    source = source_of(address, settings)
    transfer(source, facts_of(source, settings), path, Expected(), settings)
    _read(str(path), coords)
    path.unlink()


def by_ranges(address: str, coords: NDArray[np.int64], folder: Path) -> None:
    _read(address, coords)


def _read(path: str, coords: NDArray[np.int64]) -> None:
    with open_slide(path) as slide:
        for _ in read_tiles(slide, coords, LAYOUT.read_level, SIDE, threads=THREADS):
            pass


def in_parallel(address: str, coords: NDArray[np.int64], folder: Path) -> None:
    store, key = object_at(address)
    with open_remote(address) as file, tifffile.TiffFile(file) as tiff:  # the index alone
        page = tiff.pages[LAYOUT.read_level].aspage()
        columns, tables = -(-page.imagewidth // TILE), page.jpegtables
        x, y = (coords // LAYOUT.read_downsample // TILE).T
        wanted = np.unique(y * columns + x)
        places = [(page.dataoffsets[tile], page.databytecounts[tile]) for tile in wanted]

    def read(part: Sequence[tuple[int, int]]) -> None:
        starts, lengths = zip(*part, strict=True)
        for content in obstore.get_ranges(store, key, starts=starts, lengths=lengths):
            imagecodecs.jpeg8_decode(bytes(content), tables=tables)

    step = max(1, min(16, len(places) // THREADS))
    with ThreadPoolExecutor(THREADS) as pool:
        list(pool.map(read, [places[i : i + step] for i in range(0, len(places), step)]))


WAYS: dict[str, Way] = {
    "fetched": fetched,
    "by ranges": by_ranges,
    "ranges in parallel": in_parallel,
}


def samples(tiles: tuple[int, int]) -> dict[str, NDArray[np.int64]]:
    """What is read of a slide: places at level 0."""
    coords = grid(LAYOUT, tiles)
    drawn = np.random.default_rng(0).permutation(len(coords))
    return {
        "all tiles": coords,
        "a tenth": coords[np.sort(drawn[: len(coords) // 10])],
        "eight tiles": coords[np.sort(drawn[:8])],
    }


def measure(content: bytes, tiles: tuple[int, int], folder: Path) -> list[dict[str, Any]]:
    """Seconds, requests and bytes by what is read, latency and way."""
    rows = []
    for latency in LATENCIES_MS:
        for what, coords in samples(tiles).items():
            for way, call in WAYS.items():
                with serving(content, latency / 1000) as line:
                    started = time.perf_counter()
                    call(f"http://127.0.0.1:{line.server_port}/slide.tif", coords, folder)
                    seconds = time.perf_counter() - started
                row = {"latency_ms": latency, "read": what, "way": way, "seconds": seconds}
                row |= {"requests": line.requests, "megabytes": line.bytes / 1e6}
                rows.append(row)
                print("{latency_ms:3d} ms  {read:12s} {way:20s} {seconds:7.2f} s".format(**row))
    return rows


def main(arguments: Sequence[str] | None = None) -> None:
    """From the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--quick", action="store_true", help="a small slide, to try it out")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder of the JSON file")
    args = parser.parse_args(arguments)
    tiles = (16, 16) if args.quick else (32, 32)
    with tempfile.TemporaryDirectory() as folder:
        pattern = tissue_pattern()
        path = write_slide(Path(folder) / "slide.tif", LAYOUT, pattern, tiles)
        content = path.read_bytes()
        rows = measure(content, tiles, Path(folder))
    made = {"megabytes": len(content) / 1e6, "tiles": tiles[0] * tiles[1]}
    made |= {"content": pattern.source, "line_mb_per_s": LINE_MB_S, "quick": args.quick}
    print(record("ranges", torch.device("cpu"), {"slide": made, "measured": rows}, args.out))


if __name__ == "__main__":
    main()
