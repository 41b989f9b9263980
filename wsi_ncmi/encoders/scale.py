"""The input contract: an encoder sees tiles of the scale that it was trained on, or says no."""

from typing import Protocol

from wsi_ncmi.errors import PartError

TOLERANCE = 0.1
# Authors cut tiles of 256 (512) px and resize them to 224 (448): that is how weights are used.
RESIZE = 256 / 224
_ROUNDING = 1e-9


class Scaled(Protocol):
    """What is asked of an encoder here: `Encoder` and `PathologyEncoder` both have it."""

    @property
    def name(self) -> str: ...
    @property
    def mpp(self) -> tuple[float, ...]: ...
    @property
    def input_px(self) -> int: ...


def check_scale(encoder: Scaled, tile_mpp: float, tile_px: int) -> None:
    """Refuse tiles of another scale than the encoder's.

    The whole tile is resized to the input, so the network sees `tile_mpp · tile_px / input_px`
    µm/px. A recommended µm/px is met by what the network sees, within 10 %; or by the tile as it
    was cut, within 10 %, if it is then resized by no more than from 256 to 224 px, as authors do.
    Tiles that are enlarged by more than that to the input meet none: the detail is not there.

    Args:
        encoder: states its `mpp`; one that states none takes any scale.
        tile_mpp: µm/px of the tiles as cut (`tiling.mpp`).
        tile_px: their side in pixels (`Tiling.side_px`).

    Raises:
        PartError: what was found, what was expected, and the remedies.
    """
    if not encoder.mpp:
        return
    factor = tile_px / encoder.input_px
    seen = tile_mpp * factor
    published = max(factor, 1 / factor) <= RESIZE + _ROUNDING
    enlarged = 1 / factor > RESIZE + _ROUNDING  # detail that is not there cannot be seen
    if any(
        (_near(seen, mpp) and not enlarged) or (published and _near(tile_mpp, mpp))
        for mpp in encoder.mpp
    ):
        return
    wanted = " or ".join(f"{mpp:g}" for mpp in encoder.mpp)
    nearest = min(encoder.mpp, key=lambda mpp: max(mpp / seen, seen / mpp))
    raise PartError(
        f"encoder {encoder.name} is meant for {wanted} µm/px, found tiles of {tile_px} px at "
        f"{tile_mpp:g} µm/px, which reach it as {encoder.input_px} px at {seen:.3g} µm/px: set "
        f"tiling.mpp to {nearest:g} and tiling.tile_px to {encoder.input_px}, or give "
        "extraction.any_scale: true if you mean it"
    )


def _near(found: float, wanted: float) -> bool:
    return abs(found / wanted - 1) <= TOLERANCE + _ROUNDING
