"""The kinds of slides that readers treat differently, and how each is stored."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Made:
    """How a slide is stored.

    Attributes:
        vendor: what OpenSlide calls it; "" if OpenSlide must refuse it.
        native: whether every level of it is a plain tiled page, see `open_slide`.
        compression: jpeg, deflate, deflate_legacy (its old number), none, lzw, packbits, or the
            number of an Aperio JPEG 2000.
        photometric: of the tag; JPEG data is in that colour space, too.
        marked: False lets the JPEG's own marker name the other colour space: RGB under JFIF's, as
            Aperio's scanners store it, or YCbCr under Adobe's.
        subsampling: of JPEG, as libjpeg calls it.
        tables: JPEG tables once in the tag, tiles as abbreviated streams.
        size: (width, height) of level 0; level `i` is smaller by `factor ** i`.
        tile: (width, height), or None for strips.
        padded: levels are stored up to whole tiles, as Philips does.
        absent: (level, row, column) of tiles of zero length.
        channels: 3, or 4 with alpha.
    """

    name: str
    vendor: str = "generic-tiff"
    native: bool = True
    compression: str | int = "jpeg"
    photometric: str = "ycbcr"
    marked: bool = True
    subsampling: str = "420"
    tables: bool = False
    quality: int = 85
    size: tuple[int, int] = (1100, 900)
    levels: int = 3
    factor: int = 2
    tile: tuple[int, int] | None = (256, 256)
    mpp: float = 0.5
    bigtiff: bool = False
    byteorder: str = "<"
    planar: bool = False
    predictor: bool = False
    orientation: int = 1
    padded: bool = False
    channels: int = 3
    absent: tuple[tuple[int, int, int], ...] = ()


KINDS = (
    Made("jpeg_420"),
    Made("jpeg_422", subsampling="422"),
    Made("jpeg_444", subsampling="444"),
    Made("jpeg_411", subsampling="411"),
    Made("jpeg_rgb", photometric="rgb", subsampling="444"),
    Made("jpeg_rgb_unmarked", photometric="rgb", subsampling="444", marked=False),
    Made("jpeg_rgb_unmarked_422", photometric="rgb", subsampling="422", marked=False),
    Made("jpeg_marked_rgb", subsampling="444", marked=False),
    Made("jpeg_tables", tables=True),
    Made("jpeg_tables_rgb", photometric="rgb", subsampling="444", tables=True),
    Made("jpeg_bigtiff", bigtiff=True),
    Made("jpeg_oblong_tiles", tile=(320, 128)),
    Made("jpeg_one_tile", size=(200, 150), levels=1),
    Made("jpeg_whole_tiles", size=(1024, 768)),
    Made("jpeg_single_level", levels=1),
    Made("jpeg_factor_4", factor=4),
    Made("jpeg_odd", size=(1101, 903), levels=4),
    Made("jpeg_factor_3", size=(1000, 700), factor=3),
    Made("jpeg_absent", absent=((0, 0, 0), (0, 1, 2), (1, 0, 0), (2, 0, 0))),
    Made("deflate", compression="deflate", photometric="rgb"),
    Made("deflate_predictor", compression="deflate", photometric="rgb", predictor=True),
    Made("deflate_absent", compression="deflate", photometric="rgb", absent=((0, 0, 0), (1, 1, 1))),
    Made("deflate_legacy", compression="deflate_legacy", photometric="rgb", levels=1),
    Made("uncompressed", compression="none", photometric="rgb"),
    Made("aperio", vendor="aperio", tile=(240, 240)),
    Made("aperio_rgb", vendor="aperio", photometric="rgb", subsampling="422", marked=False),
    Made("aperio_bigtiff_tables", vendor="aperio", tables=True, bigtiff=True, factor=4),
    Made("aperio_absent", vendor="aperio", levels=1, absent=((0, 0, 0), (0, 2, 3))),
    Made("philips", vendor="philips", size=(1280, 1024), padded=True),
    Made(
        "philips_absent",
        vendor="philips",
        padded=True,
        size=(1280, 1024),
        absent=((0, 0, 1), (1, 0, 0)),
    ),
    Made("asap", vendor="philips", tile=(512, 512), size=(1400, 1100), bigtiff=True),
    Made("asap_odd", vendor="philips", tile=(512, 512), size=(1401, 1103), levels=4),
    # What native leaves to another reader.
    Made("packbits", native=False, compression="packbits", photometric="rgb", levels=1),
    Made("lzw", native=False, compression="lzw", photometric="rgb"),
    Made("deflate_ycbcr", native=False, compression="deflate"),
    Made("deflate_planar", native=False, compression="deflate", photometric="rgb", planar=True),
    Made("deflate_alpha", native=False, compression="deflate", photometric="rgb", channels=4),
    Made(
        "deflate_upside_down", native=False, compression="deflate", photometric="rgb", orientation=4
    ),
    Made("jp2k_ycbcr", "aperio", native=False, compression=33003, photometric="rgb"),
    Made("jp2k_rgb", "aperio", native=False, compression=33005, photometric="rgb"),
    Made("big_endian", "", native=False, byteorder=">"),  # OpenSlide 4.0.1 knows none
    Made("striped", "", native=False, tile=None, levels=1),
)
BY_NAME = {made.name: made for made in KINDS}
