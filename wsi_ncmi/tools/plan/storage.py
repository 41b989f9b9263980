"""How wide an encoder's features are and whether tiles fit it, without downloading its weights."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from wsi_ncmi import registry
from wsi_ncmi.config import Extraction, Tiling
from wsi_ncmi.encoders import build_encoder, check_scale, published_facts
from wsi_ncmi.errors import PartError

ITEM_BYTES = {"float16": 2, "float32": 4}
PLACE_BYTES = 2 * 4 + 2
"""coords and tissue_fraction of a tile."""


@dataclass(frozen=True)
class Storage:
    """What a tile takes on disk, and what speaks against the encoder.

    Attributes:
        encoder: its name. folder: that of its features. dim: D, None where it is not known.
        bytes_per_tile: in a bag, augmented copies included; None where D is not known.
        note: why D is not known. problem: why the tiles do not fit the encoder, or nothing.
    """

    encoder: str
    dim: int | None
    bytes_per_tile: int | None
    note: str = ""
    problem: str = ""
    folder: str = ""


@dataclass(frozen=True)
class _Shape:
    """What `check_scale` asks of an encoder, and D."""

    name: str
    mpp: tuple[float, ...]
    input_px: int
    dim: int


def storages_of(extraction: Extraction, tiling: Tiling, dims: Mapping[str, int]) -> list[Storage]:
    """Storage of every encoder, and whether its weights can be had, as far as this machine knows.

    Args:
        dims: folder of an encoder -> D by the user; "": of every one.
    """
    found = []
    for name, one in extraction.each.items():
        storage = storage_of(one, tiling, dims.get(name, dims.get("")))
        said = [storage.problem, _no_weights(one, extraction.key(name))]
        problem = "; ".join(text for text in said if text)
        found.append(replace(storage, folder=name, problem=problem))
    return found


def _no_weights(extraction: Extraction, key: str) -> str:
    facts = published_facts(extraction.encoder)
    if extraction.weights is not None or facts is None:
        return ""
    from wsi_ncmi.encoders.hub import no_access

    why = no_access(facts)
    return f"{why}; or give the file as {key}.weights" if why else ""


def storage_of(extraction: Extraction, tiling: Tiling, dim: int | None) -> Storage:
    """Storage of a configuration; imports torch only for an encoder that has no published facts.

    Args:
        dim: D by the user, where the encoder is not at hand.
    """
    name = extraction.encoder
    if name.startswith("hf-hub:") and dim is None:
        note = f"{name} is described at the hub only: give the number of its features by --dim"
        return Storage(name, None, None, note)
    if dim is not None and published_facts(name) is None:
        return _storage(extraction, dim)
    storage = Storage(name, None, None, "the encoder cannot be made")
    try:
        encoder = _shape_of(extraction)
        storage = _storage(extraction, dim or encoder.dim)
        if not extraction.any_scale:
            check_scale(encoder, tiling.mpp, tiling.side_px)
    except PartError as error:
        return replace(storage, problem=" ".join(str(error).split()))
    return storage


def _storage(extraction: Extraction, dim: int) -> Storage:
    copies = extraction.augmentation.copies if extraction.augmentation else 0
    size = dim * ITEM_BYTES[extraction.dtype] * (1 + copies) + PLACE_BYTES
    return Storage(extraction.encoder, dim, size)


def _shape_of(extraction: Extraction) -> _Shape:
    facts = published_facts(extraction.encoder)
    if facts is not None:
        return _Shape(facts.name, facts.mpp, facts.input_px, facts.dim)
    if extraction.encoder in registry.names("encoder"):  # random weights: nothing to fetch
        encoder = build_encoder(extraction.encoder, extraction.options, None)
        return _Shape(encoder.name, encoder.mpp, encoder.input_px, encoder.dim)
    return _timm_shape(extraction)


def _timm_shape(extraction: Extraction) -> _Shape:
    import timm
    import torch

    module = registry.load("encoder", "timm")
    options = registry.options_of(module, extraction.options)
    name = extraction.encoder
    try:
        with torch.device("meta"):  # the shape of the network without its memory
            network = timm.create_model(name, num_classes=0, **options.arguments)
    except Exception as error:  # constructors raise what they like
        raise PartError(
            f"extraction.encoder {name} cannot be made: {type(error).__name__}: {error}"
        ) from error
    size = timm.data.resolve_model_data_config(network)["input_size"][-1]
    mpp = () if options.mpp is None else (options.mpp,)
    return _Shape(name, mpp, options.input_px or size, module.feature_dim(network))
