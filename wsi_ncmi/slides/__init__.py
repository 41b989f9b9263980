"""Reading slides: pixels, levels, µm/px, whatever library can read them. Never imports torch."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from wsi_ncmi.slides.reader import Slide, open_slide

__all__ = ["Slide", "open_slide"]


def __getattr__(name: str) -> Any:
    # Lazy, so that the pure modules (spacing, pyramid, chunks) load no slide library.
    if name in __all__:
        from wsi_ncmi.slides import reader

        return getattr(reader, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
