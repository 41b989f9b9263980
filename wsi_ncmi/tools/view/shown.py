"""The slides of a source: what is sent of each, from memory where it is there."""

from collections.abc import Callable, Sequence

from wsi_ncmi.errors import UserError
from wsi_ncmi.slides.reader import Slide
from wsi_ncmi.tiling.tilefile import TiledSlide
from wsi_ncmi.tools.view import layers, pictures
from wsi_ncmi.tools.view.cache import ByteCache
from wsi_ncmi.tools.view.opened import OpenSlide, OpenSlides, Threads
from wsi_ncmi.tools.view.pyramid import ViewLevel, decoded_jpeg, stored_jpeg
from wsi_ncmi.tools.view.results import opens
from wsi_ncmi.tools.view.source import Json, SlidePlace, Source


class NoSlideError(UserError):
    """The source has no slide of this name."""


class Shown:
    """Tiles, pictures and facts of slides.

    Args:
        kept_bytes: of what was decoded and encoded.
        remote: whether slides at addresses are read there.
    """

    def __init__(
        self,
        source: Source,
        threads: Threads,
        kept_bytes: int = 256_000_000,
        *,
        remote: bool = False,
    ) -> None:
        self.source, self.threads, self.remote = source, threads, remote
        self.open = OpenSlides(threads)
        self.kept = ByteCache(kept_bytes)

    async def place(self, slide_id: str) -> SlidePlace:
        """Where a slide is; NoSlideError where there is none of this name."""
        return await self.threads.run(lambda: self._place(slide_id), slide_id)

    def _place(self, slide_id: str) -> SlidePlace:
        found = self.source.place(slide_id)
        if found is None:
            raise NoSlideError(f"there is no slide {slide_id[:100]}")
        return found

    def _find(self, slide_id: str) -> Callable[[], tuple[str, float | None]]:
        def find() -> tuple[str, float | None]:
            place = self._place(slide_id)
            return opens(place, remote=self.remote), place.mpp

        return find

    async def tile(self, slide_id: str, level: int, column: int, row: int) -> bytes:
        """A tile of the page as JPEG.

        Raises:
            IndexError: there is no such level or tile. NoSlideError: no such slide.
            SlideError, BusyError: see `OpenSlides.using`.
        """
        found = self.open.at_hand(slide_id)
        if found is not None:
            jpeg = self._at_hand(found, slide_id, level, column, row)
            if jpeg is not None:
                return jpeg
        async with self.open.using(slide_id, self._find(slide_id)) as found:
            check_tile(found, level, column, row)
            if found.levels[level].source is None:
                return (await self.open.overview(found))[level, column, row]
            key = slide_id, found.state, level, column, row
            known = self.kept.get(key)
            return known or await self._read(found, key, level, column, row)

    def _at_hand(
        self, found: OpenSlide, slide_id: str, level: int, column: int, row: int
    ) -> bytes | None:
        """A tile that needs no thread: stored and in the system's memory, or kept in ours."""
        check_tile(found, level, column, row)
        try:
            jpeg = stored_jpeg(found.slide, found.levels[level], column, row, wait=False)
        except BlockingIOError:
            return None
        return jpeg or self.kept.get((slide_id, found.state, level, column, row))

    async def _read(
        self, found: OpenSlide, key: tuple[object, ...], level: int, column: int, row: int
    ) -> bytes:
        of = found.slide, found.levels[level], column, row

        def work() -> bytes:
            stored = stored_jpeg(*of, wait=True)
            if stored is not None:
                return stored
            made = decoded_jpeg(*of)
            self.kept.put(key, made)
            return made

        return await self.open.read(found, work, str(key[0]))

    async def info(self, slide_id: str) -> Json:
        """Size, scale and levels of a slide, opened anew if its file has changed.

        Raises:
            AbsentError: its file is gone. Others as `tile`.
        """
        await self.open.refresh(slide_id)
        place = await self.place(slide_id)
        async with self.open.using(slide_id, self._find(slide_id)) as found:
            mask = await self.threads.run(lambda: mask_facts(place), slide_id)
            return {**facts(slide_id, found.slide, found.levels, found.unscaled), "mask": mask}

    async def thumbnail(self, slide_id: str) -> bytes:
        """The whole slide in few pixels: that of the tiling, or made from the slide."""
        place = await self.place(slide_id)
        stored = await self.threads.run(lambda: pictures.stored_thumbnail(place), slide_id)
        if stored is not None:
            return stored
        async with self.open.using(slide_id, self._find(slide_id)) as found:
            key = slide_id, found.state, "thumbnail"
            known = self.kept.get(key)
            if known is None:
                known = await self._thumbnail(found, slide_id)
                self.kept.put(key, known)
            return known

    async def _thumbnail(self, found: OpenSlide, slide_id: str) -> bytes:
        last = len(found.levels) - 1
        if found.levels[last].source is None:  # it took long to make: it is not made twice
            coarsest = (await self.open.overview(found))[last, 0, 0]
            return await self.threads.run(lambda: pictures.shrunk(coarsest), slide_id)
        return await self.open.read(found, lambda: pictures.slide_thumbnail(found.slide), slide_id)

    async def crop(self, slide_id: str, index: int) -> bytes:
        """A tile of the grid; IndexError where there is none, others as `tile`."""
        place = await self.place(slide_id)
        async with self.open.using(slide_id, self._find(slide_id)) as found:

            def work() -> bytes:
                return pictures.crop(found.slide, _grid_of(found, place), index)

            return await self.open.read(found, work, slide_id)


def _grid_of(found: OpenSlide, place: SlidePlace) -> TiledSlide:
    """The slide's tiles, read once while it is open."""
    if found.grid is None:
        found.grid = layers.tiles_of(place)
    return found.grid


def check_tile(found: OpenSlide, level: int, column: int, row: int) -> None:
    """IndexError where a slide has no such tile."""
    if not 0 <= level < len(found.levels):
        raise IndexError(f"the slide has {len(found.levels)} levels, there is no {level}")
    if not found.levels[level].has(column, row):
        of = found.levels[level]
        raise IndexError(f"level {level} has {of.columns} x {of.rows} tiles, no {column}_{row}")


def facts(slide_id: str, slide: Slide, levels: Sequence[ViewLevel], unscaled: str) -> Json:
    """What `info.json` says of an open slide.

    Args:
        unscaled: why its scale is not known; "" for one that is.
    """
    width, height = slide.dimensions
    return {
        "id": slide_id,
        "width": width,
        "height": height,
        "mpp": None if unscaled else slide.mpp,
        "mpp_source": unscaled or slide.mpp_source,
        "objective_power": slide.objective_power,
        "reader": slide.reader,
        "reader_reason": slide.reader_reason,
        "icc": slide.has_icc_profile,
        "bounds": list(slide.bounds),
        "levels": [
            {
                "width": level.width,
                "height": level.height,
                "tile_width": level.tile_width,
                "tile_height": level.tile_height,
                "columns": level.columns,
                "rows": level.rows,
                "downsample": level.downsample,
                "passthrough": level.passthrough,
            }
            for level in levels
        ],
        "error": None,
    }


def mask_facts(place: SlidePlace) -> Json | None:
    """What `info.json` says of the tissue mask; None: there is none."""
    try:
        tiles = layers.tiles_of(place)
    except UserError:
        return None
    return {"downsample": layers.mask_downsample(tiles)}
