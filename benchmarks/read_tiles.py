"""How fast tiles are read: natively, by OpenSlide, by tiffslide, and the common way.

    python benchmarks/read_tiles.py
    python benchmarks/read_tiles.py --quick

256² tiles at 0.5 µm/px from made slides (see slides_made.py), page cache warm, slides open, one
thread for CPU seconds and two for wall time. "the common way" is OpenSlide → PIL → RGB → bicubic
resize to 224² → normalised float, as CLAM's and TRIDENT's data sets do it in their workers.
"decoding alone" decodes the same native tiles, held in memory, into one buffer: nothing that reads
them by this decoder can take less. Every other rival ends with uint8 RGB of the level that is read;
where that is not 0.5 µm/px, what remains is for the encoder's device. "native, to floats" adds just
that on the CPU: what extraction without a GPU does. Prints tiles per second and ratios, writes
results/read_tiles-cpu.json.
"""

import argparse
import tempfile
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import openslide
import simplejpeg
import torch
from common_way import CommonTile
from free_encoder import free_encoder
from measure import RESULTS, ratio, record, spent
from numpy.typing import NDArray
from slides_made import LAYOUTS, Layout, Pattern, grid, stored_tiles, tissue_pattern, write_slide
from tiffslide import TiffSlide

from wsi_ncmi.extraction.encode import BatchEncoder, TilePixels
from wsi_ncmi.slides.decoders import JpegDecoder
from wsi_ncmi.slides.reader import Slide, open_slide
from wsi_ncmi.slides.stream import Buffers, read_tiles

BLOCK = 64
TILE_PX = 256
CPU = torch.device("cpu")


@dataclass(frozen=True)
class Case:
    """A grid on a slide.

    Attributes:
        layout: of the slide, by its name in `slides_made.LAYOUTS`.
        offset: of the grid in pixels of the level; native tiles are cut where it is not 0.
        tiles: (columns, rows) of 256² tiles at 0.5 µm/px that the slide holds.
    """

    layout: str
    offset: int
    tiles: tuple[int, int]


CASES = {
    "CAMELYON layout": Case("camelyon", 0, (32, 32)),
    "CAMELYON layout, 15 mm wide": Case("camelyon", 0, (120, 8)),
    "256² native": Case("native_256", 0, (32, 32)),
    "256² native, unaligned": Case("native_256", 100, (32, 32)),
    "40x without a 2x level": Case("no_2x", 0, (16, 16)),
}
REPORTED = (
    ("OpenSlide", "native"),
    ("tiffslide", "native"),
    ("the common way", "native"),
    ("the common way", "native, to floats"),
    ("native", "decoding alone"),
)


class Rivals:
    """Everything that reads the same tiles of one slide.

    Args:
        stack: closes the slide's handles.
    """

    def __init__(self, stack: ExitStack, path: Path, case: Case) -> None:
        self.path, self.case = path, case
        self.layout: Layout = LAYOUTS[case.layout]
        self.level = self.layout.read_level
        self.side = round(256 * 0.5 / (self.layout.mpp * self.layout.read_downsample))
        self.coords = grid(self.layout, case.tiles, case.offset)
        self.slide = stack.enter_context(open_slide(path, "native"))
        self.openslide = stack.enter_context(openslide.OpenSlide(str(path)))
        self.tiffslide = stack.enter_context(TiffSlide(str(path)))
        tables, stored = stored_tiles(path, self.layout, self.coords, self.side)
        decoder = JpegDecoder.of(self.layout.tile, self.layout.tile, tables, ycbcr=True)
        self.stored = [decoder.stream(content) for content in stored]
        self.buffers = Buffers()  # as the extractor has them
        self.tile = np.empty((self.side, self.side, 3), np.uint8)
        self.encode = BatchEncoder(free_encoder(), BLOCK, CPU, "none")
        self.common_tile = CommonTile(self.level, self.side, self.encode.encoder)
        self.half: Slide | None = None
        if self.side == 2 * TILE_PX:
            self.half = stack.enter_context(open_slide(path, "native_half"))

    def calls(self) -> dict[str, Callable[[], None]]:
        """By name, on one thread."""
        found = {
            "native": lambda: self.native(self.slide, self.level, self.side, 1),
            "native, to floats": self.native_to_floats,
            "decoding alone": lambda: self.decoding(self.stored),
            "OpenSlide": lambda: self.by_openslide(self.coords),
            "tiffslide": self.by_tiffslide,
            "the common way": lambda: self.common(self.coords),
        }
        if self.half is not None:
            half, level = self.half, self.level + len(self.layout.downsamples)
            found["native, half decoding"] = lambda: self.native(half, level, TILE_PX, 1)
        return found

    def threaded(self, threads: int) -> dict[str, Callable[[], None]]:
        """By name, on several threads."""

        def shared(read: Callable[[Any], None], items: Sequence[Any]) -> Callable[[], None]:
            def call() -> None:
                with ThreadPoolExecutor(threads) as pool:
                    list(pool.map(read, [items[i::threads] for i in range(threads)]))

            return call

        return {
            "native": lambda: self.native(self.slide, self.level, self.side, threads),
            "decoding alone": shared(self.decoding, self.stored),
            "OpenSlide": shared(self.by_openslide, self.coords),
            "the common way": shared(self.common, self.coords),
        }

    def native(self, slide: Slide, level: int, side: int, threads: int) -> None:
        blocks = read_tiles(
            slide,
            self.coords,
            level,
            side,
            threads=threads,
            block=BLOCK,
            allocate=self.buffers,
        )
        for block in blocks:
            assert not block.invalid
            self.buffers.give_back(block.pixels)

    def native_to_floats(self) -> None:
        for block in read_tiles(self.slide, self.coords, self.level, self.side, block=BLOCK):
            self.encode([TilePixels(block.pixels)])

    def decoding(self, stored: Sequence[bytes]) -> None:
        buffer = np.empty((self.layout.tile, self.layout.tile, 3), np.uint8)
        for content in stored:
            simplejpeg.decode_jpeg(content, colorspace="RGB", buffer=buffer)

    def by_openslide(self, coords: NDArray[np.int64]) -> None:
        tile = np.empty((self.side, self.side, 3), np.uint8)
        for x, y in coords.tolist():
            region = self.openslide.read_region((x, y), self.level, (self.side, self.side))
            tile[...] = np.asarray(region)[..., :3]

    def by_tiffslide(self) -> None:
        size = (self.side, self.side)
        for x, y in self.coords.tolist():
            self.tile[...] = self.tiffslide.read_region((x, y), self.level, size, as_array=True)

    def common(self, coords: NDArray[np.int64]) -> None:
        for x, y in coords.tolist():
            self.common_tile(self.openslide, x, y)

    def equal_tiles(self) -> int:
        """How many tiles are, natively read, what OpenSlide makes of them, to the last bit."""
        equal = 0
        for block in read_tiles(self.slide, self.coords, self.level, self.side):
            for pixels, index in zip(block.pixels, block.indices.tolist(), strict=True):
                corner = tuple(self.coords[index].tolist())
                region = self.openslide.read_region(corner, self.level, (self.side, self.side))
                equal += bool((np.asarray(region)[..., :3] == pixels).all())
        return equal


def measure_case(case: Case, folder: Path, pattern: Pattern, rounds: int) -> dict[str, Any]:
    """Times and ratios of one case."""
    path = folder / f"{case.layout}-{'x'.join(map(str, case.tiles))}.tif"
    if not path.is_file():
        write_slide(path, LAYOUTS[case.layout], pattern, case.tiles)
    with ExitStack() as stack:
        rivals = Rivals(stack, path, case)
        count = len(rivals.coords)
        times = spent(rivals.calls(), CPU, rounds=rounds)
        return {
            "tiles": count,
            "native_tiles": len(rivals.stored),
            "bytes_per_native_tile": round(np.mean([len(s) for s in rivals.stored])),
            "equal_to_openslide": rivals.equal_tiles(),
            "tiles_per_cpu_s": {name: count / t["cpu_s"] for name, t in times.items()},
            "cpu_ratio": {f"{a} / {b}": ratio(times, a, b) for a, b in REPORTED},
            "seconds": times,
            "two_threads": _two_threads(rivals, count, rounds),
        }


def _two_threads(rivals: Rivals, count: int, rounds: int) -> dict[str, Any]:
    times = spent(rivals.threaded(2), CPU, rounds=rounds)
    return {
        "tiles_per_wall_s": {name: count / t["wall_s"] for name, t in times.items()},
        "seconds": times,
    }


def show(name: str, found: dict[str, Any]) -> None:
    equal = f"{found['equal_to_openslide']} of {found['tiles']} equal to OpenSlide's"
    print(f"\n{name}: {found['bytes_per_native_tile'] / 1e3:.1f} kB a native tile; {equal}")
    wall = found["two_threads"]["tiles_per_wall_s"]
    for rival, rate in found["tiles_per_cpu_s"].items():
        threads = f"{wall[rival]:10.0f} tiles/s with 2 threads" if rival in wall else ""
        print(f"  {rival:24} {rate:8.0f} tiles/CPU-s {threads}")
    for pair, value in found["cpu_ratio"].items():
        print(f"  {pair:40} {value:6.2f}")


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help="small slides, to try it out")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder of the JSON file")
    args = parser.parse_args(arguments)
    torch.set_num_threads(1)
    pattern = tissue_pattern()
    results = {}
    with tempfile.TemporaryDirectory() as folder:
        for name, case in CASES.items():
            if args.quick:
                case = Case(case.layout, case.offset, (8, 8))
            results[name] = measure_case(case, Path(folder), pattern, args.rounds)
            show(name, results[name])
    content = {"content": pattern.source, "quick": args.quick, "cases": results}
    print(record("read_tiles", CPU, content, args.out))


if __name__ == "__main__":
    main()
