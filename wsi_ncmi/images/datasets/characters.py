"""A text: each sample is a window of characters, its class the character that comes next.

The text is lower-cased, with single spaces and line ends. It is cut into stretches. A window
and the character after it lie in one stretch, and a stretch is a group: it is whole in one part and
is resampled as a whole. So no window of the test part shares a character with one of training.
"""

import hashlib
import re
import unicodedata
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from wsi_ncmi.bounds import bounded, check_options
from wsi_ncmi.images.datasets.interface import DatasetError, ImageDataset, Images
from wsi_ncmi.images.kinds import TOKEN

OTHER = "other"
NAMES = {" ": "space", "\n": "line end"}
SPACES, LINE_END = re.compile(r"[^\S\n]+"), re.compile(r" ?\n\s*")


@dataclass(frozen=True)
class Options:
    """Options of a text.

    Attributes:
        context: characters of a window, 1 or more.
        length: how many characters are used, from `start` on; `null`: all.
        start: the first character that is used, 0 or more.
        stride: characters from one sample of a stretch to the next, 1 or more.
        stretch: characters of a stretch, more than `context`.
        symbols: number of classes, 2 to 256: the most frequent characters that are used, and one
            for all others.
        test_fraction: fraction of the stretches, drawn at random, that are the test part, between 0
            and 1.
        test_seed: random seed of that split.
        without: a regular expression of Python's, in which ^ and $ are those of lines; what it
            matches is left out of the text.
        sha256: of the file, which is checked; `null`: it is not.
    """

    context: int = bounded(32, least=1)
    length: int | None = bounded(None, least=1)
    start: int = bounded(0, least=0)
    stride: int = bounded(1, least=1)
    stretch: int = bounded(1000, least=2)
    symbols: int = bounded(32, least=2, most=256)
    test_fraction: float = bounded(0.2, above=0, below=1)
    test_seed: int = bounded(0, least=0, below=2**32)
    without: str | None = None
    sha256: str | None = None

    def __post_init__(self) -> None:
        check_options(self)
        if self.stretch <= self.context:
            raise ValueError(
                f"stretch must be longer than context: found {self.stretch} and {self.context}"
            )
        try:
            re.compile(self.without or "")
        except re.error as error:
            raise ValueError(f"without is no regular expression ({error})") from None


def build(path: Path, options: Options) -> ImageDataset:
    """Samples uint8 [context], numbers of the classes.

    Raises:
        DatasetError: no such file, another one than its digest says, no text, or one that is too
            short.
    """
    text = _read(path, options)
    classes, symbols = _encoded(text, options.symbols)
    ends = _ends(len(symbols), options)
    if len(ends) == 0:
        raise DatasetError(
            f"{path}: {len(symbols)} characters, expected more than the context of "
            f"{options.context}: choose a longer text, or another start"
        )
    windows = np.lib.stride_tricks.sliding_window_view(symbols, options.context)
    whole = Images(
        [f"character-{end:08d}" for end in ends],
        symbols[ends].astype(np.int64),
        windows[ends - options.context],
        groups=[f"stretch-{end // options.stretch:06d}" for end in ends],
        kind=TOKEN,
    )
    parts = whole.split(options.test_fraction, options.test_seed, "options.test_fraction")
    return ImageDataset(classes, *parts, (path,), protocol="holdout")


def _read(path: Path, options: Options) -> str:
    if not path.is_file():
        raise DatasetError(f"{path}: no such file, expected a text in UTF-8")
    data = path.read_bytes()
    found = hashlib.sha256(data).hexdigest()
    if options.sha256 not in (None, found):
        raise DatasetError(
            f"{path}: SHA-256 {found}, expected {options.sha256}: it is another text than the "
            "configuration was written for; leave options.sha256 out to use it nevertheless"
        )
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        raise DatasetError(f"{path}: not UTF-8 ({error}): convert the text") from None
    if options.without:
        text = re.sub(options.without, "", text, flags=re.MULTILINE)
    text = LINE_END.sub("\n", SPACES.sub(" ", text.lower())).strip()
    end = None if options.length is None else options.start + options.length
    return text[options.start : end]


def _encoded(text: str, symbols: int) -> tuple[list[str], NDArray[np.uint8]]:
    """The classes, most frequent first, and the text as their numbers [n]."""
    ranked = sorted(Counter(text).items(), key=lambda item: (-item[1], item[0]))
    kept = [character for character, _ in ranked]
    rest = len(kept) > symbols
    kept = kept[: symbols - 1] if rest else kept
    number = {character: i for i, character in enumerate(kept)}
    found = np.fromiter((number.get(c, len(kept)) for c in text), np.uint8, len(text))
    return [*map(_name, kept), *[OTHER] * rest], found


def _name(character: str) -> str:
    """Letters and digits as they are; what tables cannot show, by its name in Unicode."""
    if character.isalnum():
        return character
    by_number = f"u+{ord(character):04x}"
    return NAMES.get(character) or unicodedata.name(character, by_number).lower()


def _ends(count: int, options: Options) -> NDArray[np.int64]:
    """Where the characters stand that are predicted."""
    place = np.arange(count)
    inside = place % options.stretch
    chosen = (inside >= options.context) & ((inside - options.context) % options.stride == 0)
    return place[chosen].astype(np.int64)
