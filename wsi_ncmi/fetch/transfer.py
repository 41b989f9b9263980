"""One object onto the disk: parts at the same time, tried again, checked, renamed at the end."""

import logging
import random
import time
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from itertools import islice
from pathlib import Path
from typing import TypeVar

from wsi_ncmi.config import Fetch
from wsi_ncmi.errors import AbsentError, UnreachableError
from wsi_ncmi.fetch.checksums import Expected
from wsi_ncmi.fetch.partial import Part, PartialFile
from wsi_ncmi.fetch.source import Facts, Source

log = logging.getLogger(__name__)
Found = TypeVar("Found")

FIRST_PAUSE, LONGEST_PAUSE = 0.25, 30.0
ATTEMPTS = 2
"""At the whole, where its bytes are wrong: the second rules out the way as the cause."""


def facts_of(source: Source, settings: Fetch) -> Facts:
    """Size and tag of an object; errors as in `transfer`."""
    return _patient(source.facts, settings)


def transfer(source: Source, facts: Facts, path: Path, expected: Expected, settings: Fetch) -> None:
    """Fetch an object to `path`, which is not there or whole. What a killed run left is used.

    Raises:
        AbsentError: there is no such object.
        UnreachableError: a part did not come in `tries` tries, or the bytes are wrong.
        OutputError: the disk is full.
    """
    problem = ""
    for _ in range(ATTEMPTS):
        with PartialFile(path, facts, settings.part_mb * 1_000_000) as partial:
            _fetch_parts(source, partial, settings)
            if facts_of(source, settings) != facts:
                partial.drop()
                raise UnreachableError(f"{source.address}: it changed while it was fetched")
            problem = expected.problem(partial.data)
            if not problem:
                partial.finish()
                return
            log.warning("%s: %s: fetched once more", source.address, problem)
            partial.drop()
    raise UnreachableError(
        f"{source.address}: {problem}, {ATTEMPTS} times: the source or the checksum is wrong"
    )


def _fetch_parts(source: Source, partial: PartialFile, settings: Fetch) -> None:
    def fetch(part: Part) -> tuple[Part, memoryview]:
        return part, _patient(lambda: source.read(part.start, part.length), settings)

    with ThreadPoolExecutor(settings.connections) as pool:
        left = iter(list(partial.left))
        running = {pool.submit(fetch, part) for part in islice(left, settings.connections)}
        try:
            while running:
                done, running = wait(running, return_when=FIRST_COMPLETED)
                for future in done:
                    partial.write(*future.result())
                running |= {pool.submit(fetch, part) for part in islice(left, len(done))}
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _patient(read: Callable[[], Found], settings: Fetch) -> Found:
    """What `read` returns, tried again after pauses that double; they are drawn, so that many
    connections that fail together do not come back together."""
    for number in range(1, settings.tries + 1):
        try:
            return read()
        except AbsentError:
            raise
        except UnreachableError as error:
            if number == settings.tries:
                tries = f" ({number} tries)" if number > 1 else ""
                raise UnreachableError(f"{error}{tries}") from error
            pause = min(LONGEST_PAUSE, FIRST_PAUSE * 2 ** (number - 1)) * random.uniform(0.5, 1)
            log.info("%s: tried again in %.1f s", error, pause)
            time.sleep(pause)
    raise AssertionError("tries is 1 or more")
