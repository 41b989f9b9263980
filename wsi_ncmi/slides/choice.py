"""Which library reads a slide."""

from collections.abc import Sequence

from tifffile import PLANARCONFIG, TiffPage

from wsi_ncmi.address import is_remote
from wsi_ncmi.errors import SlideError, UnreachableError
from wsi_ncmi.files.reach import reaching
from wsi_ncmi.slides.backends import (
    GENERIC,
    Backend,
    OpenSlideBackend,
    TiffSlideBackend,
    error_text,
)
from wsi_ncmi.slides.brightfield import refuse_other_light
from wsi_ncmi.slides.decoders import NotNativeError
from wsi_ncmi.slides.native_tiff import NativeBackend
from wsi_ncmi.slides.tiff_index import first_pyramid, is_top, tiff_pages

OPEN: dict[str, type[OpenSlideBackend] | type[TiffSlideBackend]] = {
    "openslide": OpenSlideBackend,
    "tiffslide": TiffSlideBackend,
}


def open_backend(path: str, reader: str) -> tuple[Backend, str]:
    """The backend that reads a slide, and why it is not the native one.

    Raises:
        UnreachableError: it cannot be reached now.
        SlideError: no library opens it, or it is no brightfield slide.
    """
    if reader.startswith("auto"):
        candidates = ["tiffslide"] if is_remote(path) else ["openslide", "tiffslide"]
    else:
        candidates = ["openslide" if reader.startswith("native") else reader]
    reasons = []
    try:
        with reaching(path):
            pages = [] if is_remote(path) else tiff_pages(path)
    except UnreachableError:
        raise
    except SlideError as error:
        raise SlideError(f"{path}: {error}") from error
    except OSError as error:
        raise SlideError(f"{path}: cannot be read: {error_text(error)}") from error
    for candidate in candidates:
        try:
            with reaching(path):
                backend = OPEN[candidate](path, pages)
                _refuse_other_light(backend, pages)
        except UnreachableError:
            raise
        except SlideError as error:
            raise SlideError(f"{path}: {error}") from error
        except Exception as error:  # whatever a library raises on a damaged file
            reasons.append(f"{candidate}: {error_text(error)}")
            continue
        return _native(path, backend, pages, reader)
    raise SlideError(f"{path}: no reader opens it ({'; '.join(reasons)}){_planar(pages)}")


def _planar(pages: Sequence[TiffPage]) -> str:
    """What to do with a TIFF that keeps red, green and blue apart."""
    if not pages or pages[0].planarconfig != PLANARCONFIG.SEPARATE:
        return ""
    return (
        ": planar RGB (PlanarConfiguration 2), which is read from tiled little-endian files alone; "
        "store its channels together, for example by `tiffcp -p contig -t planar.tif slide.tif`"
    )


def _refuse_other_light(backend: Backend, pages: Sequence[TiffPage]) -> None:
    try:
        refuse_other_light(backend.properties, pages, backend.level_dimensions[0])
    except SlideError:
        backend.close()
        raise


def _native(
    path: str, backend: Backend, pages: Sequence[TiffPage], reader: str
) -> tuple[Backend, str]:
    """The native reader in place of OpenSlide, where it is wanted and can be."""
    if reader in OPEN:
        return backend, f"{reader} was asked for"
    if is_remote(path):
        return backend, "a remote slide"
    if backend.name != "openslide":
        return backend, "OpenSlide does not open it"
    reasons = []
    for half in {"auto_half": (True, False), "native_half": (True,)}.get(reader, (False,)):
        try:
            native = NativeBackend(path, backend, pages, half)
        except NotNativeError as error:
            reasons.append(str(error))
            continue
        backend.close()
        return native, ""
    if reader.startswith("auto"):
        return _with_sub_levels(path, backend, pages, reasons[-1])
    backend.close()
    raise SlideError(f"{path}: cannot be read by reader {reader!r}: {reasons[-1]}")


def _with_sub_levels(
    path: str, backend: Backend, pages: Sequence[TiffPage], reason: str
) -> tuple[Backend, str]:
    """tiffslide in place of OpenSlide where the levels are SubIFDs, which OpenSlide leaves out."""
    below = [page for page in first_pyramid(pages) if not is_top(page)]
    if not below or backend.properties.get("openslide.vendor") != GENERIC:
        return backend, reason
    try:
        with reaching(path):
            other = TiffSlideBackend(path, pages)
    except UnreachableError:
        raise
    except Exception:  # what a library raises: OpenSlide reads level 0 of it
        return backend, reason
    backend.close()
    return other, f"{reason}; its levels are SubIFDs, which OpenSlide does not read"
