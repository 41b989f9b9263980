"""How bags of new slides are made: by the records of the training, or by a configuration."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from wsi_ncmi.config import SLIDE_MINUTES, Attention, Extraction
from wsi_ncmi.config.files import Sections, sections_of
from wsi_ncmi.config.making import recorded
from wsi_ncmi.encoders import build_encoder
from wsi_ncmi.errors import UserError
from wsi_ncmi.tools.predict.model import Model


def sections_for(model: Model, config: Sequence[Path], weights: Path | None = None) -> Sections:
    """Tiling and extraction for new slides, checked before anything is computed.

    Args:
        config: configurations, which count in place of the records; none: the records.
        weights: of the encoder, in place of the file that is named there.

    Raises:
        UserError: they are not known, lack the models' encoder, would make other bags than the
            training's, or a file of weights is not there or not the training's.
    """
    if not model.bags:
        raise UserError(
            "the models were trained on imported bags, whose encoder is not known: give --bags"
        )
    found = _of_encoder(sections_of(config), model) if config else _recorded(model)
    if weights is not None:
        found = _with_weights(found, str(weights))
    check_sections(found, model)
    _check_files(found, model)
    return found


def _of_encoder(sections: Sections, model: Model) -> Sections:
    """With the models' encoder alone, of several by the name of its folder."""
    known, name = sections.extraction.each, str(model.contents[0]["run"]["encoder"])
    if len(known) == 1:  # under whatever name: its bags state what they are of
        (name,) = known
    if name not in known:
        raise UserError(
            f"the configuration is not that of the training: its encoders are {', '.join(known)}, "
            f"expected {name}"
        )
    return replace(sections, extraction=known[name])


def _recorded(model: Model) -> Sections:
    if not model.sections:
        raise UserError(
            "the models' records, of an earlier version, do not say how slides were tiled and "
            "encoded: give --config, the configuration of the training, or run the workflow again, "
            "which records it"
        )
    made = recorded(model.sections, "the models' records")
    return Sections(made.tiling, made.extraction, Attention(), "", "", "", SLIDE_MINUTES)


def _with_weights(sections: Sections, weights: str) -> Sections:
    extraction = sections.extraction.model_copy(update={"weights": weights})
    return replace(sections, extraction=extraction)


def check_sections(sections: Sections, model: Model) -> None:
    """Compare what can be compared with what the bags of the training state.

    Raises:
        UserError: other bags would be made; says which keys differ.
    """
    tiling, extraction = sections.tiling, sections.extraction
    made = {"tile_mpp": tiling.mpp, "tile_px": tiling.tile_px, "stain": extraction.stain}
    keys = {"tile_mpp": "tiling.mpp", "tile_px": "tiling.tile_px", "stain": "extraction.stain"}
    differing = [
        f"{keys[name]} is {value}, expected {model.bags[name]}"
        for name, value in made.items()
        if name in model.bags and model.bags[name] != value
    ]
    if differing:
        raise UserError("the configuration is not that of the training: " + "; ".join(differing))


def _check_files(sections: Sections, model: Model) -> None:
    tissue, own = sections.tiling.tissue.weights, sections.extraction.weights
    if tissue is not None and not Path(tissue).is_file():
        raise UserError(
            f"{tissue}: no such file of weights, which finds the tissue: give --config, with "
            "tiling.tissue.weights"
        )
    if own is None:
        return
    wanted = f"the weights of {model.encoder['name']}, {model.encoder['weights_sha256'][:12]}"
    if not Path(own).is_file():
        raise UserError(f"{own}: no such file, expected {wanted}: give --weights")
    found = _digest_of(sections.extraction, own)
    if found != model.encoder["weights_sha256"]:
        raise UserError(f"{own}: holds the weights {found[:12]}, expected {wanted}")


def _digest_of(extraction: Extraction, weights: str) -> str:
    """Of what the encoder holds: a file may hold more, or the same in another way."""
    return build_encoder(extraction.encoder, extraction.options, weights).weights_sha256
