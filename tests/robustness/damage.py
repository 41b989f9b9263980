"""Slides damaged on purpose, each by a seed: what a disk, a network or a bad writer may leave."""

import os
import random
import struct
import tempfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path

import tifffile
from made_slides import BY_NAME, write_slide

SIZES = {256, 257, 258, 259, 262, 277, 278, 284, 317, 322, 323, 530}
"""Tags of one or few numbers that decide how pixels are laid out."""
DIMENSIONS = {256, 257, 322, 323}
TABLES = {273, 279, 324, 325}
"""Offsets and byte counts of strips and tiles."""


@dataclass(frozen=True)
class Tag:
    """Where a TIFF tag's numbers stand: `[count]` of `width` bytes each, from `at`."""

    code: int
    entry: int
    at: int
    width: int
    count: int


@dataclass(frozen=True)
class Original:
    """A whole slide and where its parts are."""

    name: str
    content: bytes

    @cached_property
    def pages(self) -> list[tifffile.TiffPage]:
        with tempfile.NamedTemporaryFile() as file:
            file.write(self.content)
            file.flush()
            with tifffile.TiffFile(file.name) as tiff:
                return [page.keyframe for page in tiff.pages]

    @cached_property
    def tiles(self) -> list[tuple[int, int]]:
        """(offset, bytes) of every tile or strip that is there."""
        pairs = [zip(p.dataoffsets, p.databytecounts, strict=True) for p in self.pages]
        return [pair for page in pairs for pair in page if pair[1]]

    @cached_property
    def tags(self) -> list[Tag]:
        return [
            Tag(t.code, t.offset, t.valueoffset, t.valuebytecount // max(t.count, 1), t.count)
            for page in self.pages
            for t in page.tags
        ]


def originals(folder: Path) -> list[Original]:
    """A dozen small slides of different kinds, below 300 kB each."""
    small = {"size": (560, 420), "tile": (128, 128), "quality": 75}
    names = ["jpeg_420", "jpeg_rgb_unmarked", "jpeg_tables", "jpeg_bigtiff", "jpeg_absent"]
    names += ["aperio", "aperio_rgb", "philips", "asap_odd"]
    kinds = [replace(BY_NAME[name], **small) for name in names]
    kinds[4] = replace(kinds[4], absent=((0, 0, 0), (0, 2, 3)))  # none in the overview
    tiny = {"size": (288, 224), "tile": (96, 64), "levels": 2}
    names = ["deflate", "deflate_predictor", "uncompressed", "lzw", "jp2k_rgb"]
    kinds += [replace(BY_NAME[name], **tiny) for name in names]
    kinds.append(replace(BY_NAME["striped"], size=(560, 420)))
    return [Original(k.name, write_slide(folder / k.name, k).read_bytes()) for k in kinds]


def write_number(content: bytearray, at: int, width: int, value: int) -> None:
    """Write a little-endian number of `width` bytes; what lies behind the end is left."""
    number = (value % 256**width).to_bytes(width, "little")
    if at + width <= len(content):
        content[at : at + width] = number


def truncated(slide: Original, rng: random.Random) -> bytes:
    return slide.content[: rng.choice([8, 100, rng.randrange(len(slide.content))])]


def cut_at_the_end(slide: Original, rng: random.Random) -> bytes:
    return slide.content[: -rng.randrange(1, len(slide.content) // 3)]


def zeroed_tiles(slide: Original, rng: random.Random) -> bytes:
    content = bytearray(slide.content)
    for offset, count in rng.sample(slide.tiles, rng.randint(1, len(slide.tiles))):
        content[offset : offset + count] = bytes(count)
    return bytes(content)


def flipped_data(slide: Original, rng: random.Random) -> bytes:
    content = bytearray(slide.content)
    for offset, count in rng.sample(slide.tiles, rng.randint(1, len(slide.tiles))):
        for _ in range(rng.choice([1, 10])):
            content[offset + rng.randrange(count)] ^= rng.randrange(1, 256)
    return bytes(content)


def flipped_tables(slide: Original, rng: random.Random) -> bytes:
    """Flipped bytes in tag entries and in what they point to, pixels apart."""
    content = bytearray(slide.content)
    for _ in range(rng.choice([1, 1, 3, 20])):
        tag = rng.choice(slide.tags)
        at = rng.choice([tag.entry + rng.randrange(12), tag.at + rng.randrange(tag.width or 1)])
        content[at] ^= rng.randrange(1, 256)
    return bytes(content)


def flipped_anywhere(slide: Original, rng: random.Random) -> bytes:
    content = bytearray(slide.content)
    for _ in range(rng.choice([1, 30, 1000])):
        content[rng.randrange(len(content))] ^= rng.randrange(1, 256)
    return bytes(content)


def wrong_sizes(slide: Original, rng: random.Random) -> bytes:
    content = bytearray(slide.content)
    for tag in rng.sample([t for t in slide.tags if t.code in SIZES], rng.choice([1, 1, 2, 5])):
        old = int.from_bytes(content[tag.at : tag.at + tag.width], "little")
        near = [0, 1, 2, 3, 5, 16, old - 1, old + 1, old // 2, old * 2, old * 10, old + 16]
        write_number(content, tag.at, tag.width, rng.choice([*near, rng.randrange(2**16)]))
    return bytes(content)


def huge_dimensions(slide: Original, rng: random.Random) -> bytes:
    content = bytearray(slide.content)
    tags = [t for t in slide.tags if t.code in DIMENSIONS]
    for tag in rng.sample(tags, rng.randint(1, min(4, len(tags)))):
        value = rng.choice([2**16 - 1, 2**16, 10**6, 2**31 - 1, 2**31, 2**32 - 16, 2**32 - 1])
        write_number(content, tag.at, tag.width, value)
    return bytes(content)


def wrong_tables(slide: Original, rng: random.Random) -> bytes:
    """Offsets behind the end, byte counts of gigabytes or of nothing, too few or many of them."""
    content = bytearray(slide.content)
    for tag in rng.sample([t for t in slide.tags if t.code in TABLES], 2):
        if rng.random() < 0.3:
            count = rng.choice([0, 1, tag.count - 1, tag.count + 1, 2**20, 2**31, 2**32 - 1])
            write_number(content, tag.entry + 4, 4, count)
        for _ in range(rng.randint(1, tag.count)):
            at = tag.at + rng.randrange(tag.count) * tag.width
            value = rng.choice([0, 1, 5, len(content) - 1, len(content), 2**31, 2**32 - 1])
            write_number(content, at, tag.width, value)
    return bytes(content)


def looped_pages(slide: Original, rng: random.Random) -> bytes:
    """A page whose successor is a page before it, itself, or something that is no page."""
    content = bytearray(slide.content)
    big = content[2] == 43
    page = rng.choice(slide.pages)
    last = max((tag for tag in page.tags), key=lambda tag: tag.offset)
    at = last.offset + (20 if big else 12)
    target = rng.choice([p.offset for p in slide.pages] + [rng.randrange(len(content))])
    write_number(content, at, 8 if big else 4, target)
    return bytes(content)


def swollen_tiles(slide: Original, rng: random.Random) -> bytes:
    """Tiles that a careless decoder makes gigabytes of."""
    content = bytearray(slide.content)
    for offset, count in rng.sample(slide.tiles, rng.randint(1, len(slide.tiles))):
        for marker, skipped, numbers in FRAMES:
            at = content.find(marker, offset, offset + count)
            if at > 0:
                lie = struct.pack(numbers, *(rng.choice([128, 16_000, 65_500]) for _ in range(2)))
                content[at + skipped : at + skipped + len(lie)] = lie
    return _with_bombs(slide, content, rng) if "deflate" in slide.name else bytes(content)


FRAMES = ((b"\xff\xc0", 5, ">HH"), (b"\xff\x51", 6, ">II"))
"""Where height and width stand behind a marker: frames of JPEG, the size of JPEG 2000."""


def _with_bombs(slide: Original, content: bytearray, rng: random.Random) -> bytes:
    """Every tile of a page is a deflate stream of 2 GB of zeros."""
    bomb = _bomb()
    at = len(content)
    for page in rng.sample(slide.pages, 1):
        for code, value in ((324, at), (325, len(bomb))):
            tag = page.tags[code]
            width = tag.valuebytecount // tag.count
            for i in range(tag.count):
                write_number(content, tag.valueoffset + i * width, width, value)
    return bytes(content) + bomb


def _bomb() -> bytes:
    packer = zlib.compressobj(9)
    start = packer.compress(bytes(1000)) + packer.flush(zlib.Z_FULL_FLUSH)
    block = packer.compress(bytes(2**24)) + packer.flush(zlib.Z_FULL_FLUSH)
    return start + block * 128 + packer.flush()


Damage = Callable[[Original, random.Random], bytes]
DAMAGES: dict[str, Damage] = {
    damage.__name__: damage
    for damage in (
        truncated,
        cut_at_the_end,
        zeroed_tiles,
        flipped_data,
        flipped_tables,
        flipped_anywhere,
        wrong_sizes,
        huge_dimensions,
        wrong_tables,
        looped_pages,
        swollen_tiles,
    )
}


@dataclass(frozen=True)
class Case:
    """One damaged slide.

    Attributes:
        write: puts it where a path says.
        later: what happens to the file once a reader has opened it; while_streaming: not to find
            its tiles, but to read them.
        nobody: read by a user who is not root, for whom permissions count.
    """

    name: str
    write: Callable[[Path], None]
    later: Callable[[Path], None] | None = None
    while_streaming: bool = False
    nobody: bool = False


def cases(slides: list[Original], seeds: range) -> list[Case]:
    """Every slide with every damage, by each seed, and what may stand in a slide's place."""
    damaged = [
        _damaged(slide, damage, seed) for seed in seeds for slide in slides for damage in DAMAGES
    ]
    whole = [Case(f"{s.name}-whole", partial(Path.write_bytes, data=s.content)) for s in slides]
    return [*whole, *damaged, *specials(slides)]


def _damaged(slide: Original, damage: str, seed: int) -> Case:
    name = f"{slide.name}-{damage}-{seed}"

    def write(path: Path) -> None:
        path.write_bytes(DAMAGES[damage](slide, random.Random(name)))

    return Case(name, write)


def specials(slides: list[Original]) -> list[Case]:
    """Files that are no slides, and slides that go while they are read."""
    whole = {slide.name: slide.content for slide in slides}
    slide = whole["jpeg_420"]
    content = {
        "text": b"patient 17, node 3: to be scanned again\n" * 40,
        "empty": b"",
        "zeros": bytes(100_000),
        "header_only": slide[:8],
        "html": b"<!DOCTYPE html><html><body>403 Forbidden</body></html>",
        "doubled": slide + slide,
        "one_byte": b"I",
    }
    made = [Case(name, partial(Path.write_bytes, data=data)) for name, data in content.items()]
    made += [Case(name, write) for name, write in NOT_FILES.items()]
    made.append(Case("no_permission", partial(_forbidden, data=slide), nobody=True))
    for name in ("jpeg_420", "aperio", "deflate", "uncompressed", "lzw", "striped"):
        put = partial(Path.write_bytes, data=whole[name])
        for what, later in LATER.items():
            made.append(Case(f"{name}-{what}", put, later))
            made.append(Case(f"{name}-{what}_while_streaming", put, later, while_streaming=True))
    return made


def _symlink_loop(path: Path) -> None:
    path.with_suffix(".other").symlink_to(path.name)
    path.symlink_to(path.with_suffix(".other").name)


def _forbidden(path: Path, data: bytes) -> None:
    path.write_bytes(data)
    path.chmod(0)


def _overwrite(path: Path) -> None:
    path.write_bytes(bytes(path.stat().st_size))


NOT_FILES: dict[str, Callable[[Path], None]] = {
    "missing": lambda path: None,
    "folder": Path.mkdir,
    "dangling_symlink": lambda path: path.symlink_to("nowhere"),
    "symlink_loop": _symlink_loop,
    "named_pipe": os.mkfifo,
    "endless": lambda path: path.symlink_to("/dev/zero"),
}
LATER: dict[str, Callable[[Path], None]] = {
    "vanishes": Path.unlink,
    "shrinks": lambda path: os.truncate(path, path.stat().st_size // 2),
    "empties": lambda path: os.truncate(path, 0),
    "overwritten": _overwrite,
}
