"""A few slides as a folder whose index.html opens without a server.

A page that is opened from a file may not fetch others, but it may load scripts and pictures: data
become scripts that hand over their bytes, pictures stand there as they are sent by the server.
"""

import base64
import json
import logging
import re
import shutil
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from wsi_ncmi.config import SAFE_NAME
from wsi_ncmi.errors import SlideError, UserError, some
from wsi_ncmi.files.atomic import writing
from wsi_ncmi.predictions.attention import read_attention
from wsi_ncmi.slides.reader import Slide
from wsi_ncmi.tools.view import layers, pictures
from wsi_ncmi.tools.view.app import Settings, to_json
from wsi_ncmi.tools.view.layers import AbsentLayerError
from wsi_ncmi.tools.view.opened import open_shown
from wsi_ncmi.tools.view.page import INDEX
from wsi_ncmi.tools.view.pyramid import (
    ViewLevel,
    decoded_jpeg,
    levels_of,
    overview_tiles,
    stored_jpeg,
)
from wsi_ncmi.tools.view.results import opens
from wsi_ncmi.tools.view.shown import facts, mask_facts
from wsi_ncmi.tools.view.source import SlidePlace, Source

log = logging.getLogger(__name__)

SERVED, ALONE = 'data-source="server"', 'data-source="bundle"'
MOST_SLIDES = 8
"""That are exported without being named."""

MOST_GB = 1.0
BYTES_PER_PIXEL = 0.3
"""Of a tile that is decoded and encoded, for the estimate."""

CROPS = 12
"""Most and least attended tiles of an arm."""


class Bundle:
    """A folder that is being written.

    Attributes:
        files, size: how many, and their bytes.
    """

    def __init__(self, folder: Path) -> None:
        self.folder, self.files, self.size = folder, 0, 0

    def picture(self, key: str, content: bytes) -> None:
        """A file as it is."""
        path = self.folder / key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        self.files, self.size = self.files + 1, self.size + len(content)

    def data(self, key: str, content: bytes) -> None:
        """A script that hands over the bytes."""
        text = f'wsiBundle[{json.dumps(key)}]="{base64.b64encode(content).decode()}";\n'
        self.picture(f"{key}.js", text.encode())


def export(
    source: Source,
    page: Mapping[str, bytes],
    settings: Settings,
    folder: Path,
    slides: Sequence[str] = (),
    most_gb: float = MOST_GB,
    *,
    remote: bool = False,
) -> None:
    """Write the folder, whole or not at all, and say how large it is.

    Args:
        folder: is made; an empty one may be there.
        slides: ids; none: all, if they are few.
        most_gb: a larger one is refused before anything is written.

    Raises:
        UserError: there is something in the folder, no such slide, too many, or too large.
        OutputError: the disk is full.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UserError(f"{folder}: is not empty: name a folder that is not there yet")
    rows = _chosen(source, slides)
    places = [_place(source, row["id"]) for row in rows if row["has_pictures"]]
    sizes = _sizes(places, remote=remote)
    _check_size(sizes, most_gb)
    places = [place for place in places if place.slide_id in sizes]
    rows = [{**row, "has_pictures": row["id"] in sizes} for row in rows]
    unfinished = folder.with_name(f".{folder.name}.part")
    shutil.rmtree(unfinished, ignore_errors=True)
    bundle = Bundle(unfinished)
    try:
        with writing(folder):
            _write_page(bundle, page)
            _write_tables(bundle, source, rows)
            for place in places:
                _write_slide(bundle, place, settings, remote=remote)
            unfinished.replace(folder)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    print(
        f"{folder / INDEX}: {len(rows)} slide(s), {bundle.files} files, {bundle.size / 1e6:.1f} MB"
    )


def _chosen(source: Source, slides: Sequence[str]) -> list[dict[str, Any]]:
    rows = {row["id"]: row for row in source.slides()}
    unknown = [name for name in slides if name not in rows]
    if unknown:
        raise UserError(f"--slides: {source.name} has no slide {some(unknown)}")
    if not slides and len(rows) > MOST_SLIDES:
        raise UserError(f"{source.name} has {len(rows)} slides: name a few with --slides")
    chosen = [rows[name] for name in dict.fromkeys(slides or rows)]
    unfit = [row["id"] for row in chosen if not re.match(SAFE_NAME, row["id"])]
    if unfit:
        raise UserError(f"slide {unfit[0]!r} has a name that is none of a folder")
    return chosen


def _place(source: Source, slide_id: str) -> SlidePlace:
    found = source.place(slide_id)
    assert found is not None  # its row was there
    return found


def _sizes(places: Iterable[SlidePlace], *, remote: bool) -> dict[str, float]:
    """slide_id -> about how many bytes it takes; a slide that cannot be opened is left out."""
    found = {}
    for place in places:
        try:
            slide, _ = open_shown(opens(place, remote=remote), place.mpp)
        except SlideError as error:
            log.warning("slide %s: exported without pictures: %s", place.slide_id, error)
            continue
        with slide:
            found[place.slide_id] = sum(_bytes_of(slide, level) for level in levels_of(slide))
    return found


def _check_size(sizes: Mapping[str, float], most_gb: float) -> None:
    total = sum(sizes.values()) / 1e9
    if total > most_gb:
        each = some([f"{name} {size / 1e9:.2g} GB" for name, size in sizes.items()])
        raise UserError(
            f"the folder would take about {total:.2g} GB ({each}), more than {most_gb:g}: name "
            f"fewer slides, or allow it with --most-gb {np.ceil(total * 10) / 10:g}"
        )


def _bytes_of(slide: Slide, level: ViewLevel) -> float:
    """About how many bytes the tiles of a level take."""
    stored = None
    if level.passthrough and level.source is not None:
        stored = slide.compressed_sizes(level.source)
    pixels = level.width * level.height
    return pixels * BYTES_PER_PIXEL if stored is None else float(stored.sizes.sum())


def _write_page(bundle: Bundle, page: Mapping[str, bytes]) -> None:
    text = page[INDEX].decode()
    if SERVED not in text:
        raise UserError(f"the page has no {SERVED}: build it again with `make viewer`")
    for name, content in page.items():
        if name != INDEX:
            bundle.picture(f"page/{name}", content)
    bundle.picture(INDEX, text.replace(SERVED, ALONE).encode())


def _write_tables(bundle: Bundle, source: Source, rows: Sequence[Mapping[str, Any]]) -> None:
    overview = source.overview()
    bundle.data("data/overview.json", to_json(overview))
    bundle.data("data/slides.json", to_json({"slides": list(rows)}))
    kept = {row["id"] for row in rows}
    for task in overview["tasks"]:
        for arm in task["arms"]:
            found = source.predictions(task["name"], arm["id"])
            if found is not None:
                own = {name: one for name, one in found["slides"].items() if name in kept}
                key = f"data/predictions/{task['name']}/{arm['id']}.json"
                bundle.data(key, to_json({**found, "slides": own}))


def _write_slide(bundle: Bundle, place: SlidePlace, settings: Settings, *, remote: bool) -> None:
    opened, unscaled = open_shown(opens(place, remote=remote), place.mpp)
    with opened as slide:
        levels, folder = levels_of(slide), f"slides/{place.slide_id}"
        info = {**facts(place.slide_id, slide, levels, unscaled), "mask": mask_facts(place)}
        bundle.data(f"{folder}/info.json", to_json(info))
        _write_tiles(bundle, folder, slide, levels)
        thumbnail = pictures.stored_thumbnail(place) or pictures.slide_thumbnail(slide)
        bundle.picture(f"{folder}/thumbnail.jpg", thumbnail)
        _write_layers(bundle, folder, place, settings)
        for index in _attended(place):
            crop = pictures.crop(slide, layers.tiles_of(place), index)
            bundle.picture(f"{folder}/crops/{index}.jpg", crop)


def _write_tiles(bundle: Bundle, folder: str, slide: Slide, levels: list[ViewLevel]) -> None:
    places = [(n, c, r) for n, one in enumerate(levels) for c, r in _grid(one)]
    overview = overview_tiles(slide, levels) if levels[-1].source is None else {}
    for n, column, row in tqdm(places, desc=Path(folder).name, unit="tile", file=sys.stderr):
        of = slide, levels[n], column, row
        jpeg = overview.get((n, column, row)) or stored_jpeg(*of, wait=True) or decoded_jpeg(*of)
        bundle.picture(f"{folder}/tiles/{n}/{column}_{row}.jpg", jpeg)


def _grid(level: ViewLevel) -> Iterator[tuple[int, int]]:
    return ((column, row) for row in range(level.rows) for column in range(level.columns))


def _write_layers(bundle: Bundle, folder: str, place: SlidePlace, settings: Settings) -> None:
    def write(key: str, make: Callable[[], bytes], how: Callable[[str, bytes], None]) -> None:
        try:
            content = make()
        except AbsentLayerError:
            return
        how(f"{folder}/{key}", content)

    write("grid.safetensors", lambda: layers.grid(place), bundle.data)
    write("mask.png", lambda: layers.mask(place, settings.tissue)[0], bundle.picture)
    write(
        "annotations.json",
        lambda: to_json(layers.annotations(place, settings.lesions)),
        bundle.data,
    )
    for task, path in place.attention.items():
        for arm in read_attention(path).weights:
            key = f"attention/{task}/{arm}.safetensors"
            bundle.data(f"{folder}/{key}", layers.attention(place, task, arm))


def _attended(place: SlidePlace) -> list[int]:
    """Numbers in the grid of the most and the least attended tiles of all arms."""
    if place.tiles is None:
        return []
    corners = [(x, y) for x, y in layers.tiles_of(place).coords.tolist()]
    numbers = {corner: number for number, corner in enumerate(corners)}
    chosen: set[int] = set()
    for path in place.attention.values():
        found = read_attention(path)
        for weights in found.weights.values():
            order = np.argsort(-weights, kind="stable")
            shown = found.coords[[*order[:CROPS], *order[-CROPS:]]].tolist()
            chosen |= {numbers[x, y] for x, y in shown if (x, y) in numbers}
    return sorted(chosen)
