"""Building published pathology encoders from their rows in `published`.

Only tensors are ever taken from a hub: networks are timm's or stand here, so that no code of a
repository is run.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from torch import nn

from wsi_ncmi.encoders import attention_pool, conv_stem, dinov2
from wsi_ncmi.encoders.facts import AdapterName, NoOptions, PathologyEncoder
from wsi_ncmi.encoders.hub import download
from wsi_ncmi.encoders.interface import Encoder
from wsi_ncmi.encoders.network import ClassAndMean, make_network
from wsi_ncmi.encoders.published import PUBLISHED
from wsi_ncmi.encoders.weights import Convert, load_weights, state_sha256
from wsi_ncmi.provenance import sha256_file

Options = NoOptions


@dataclass(frozen=True)
class Adapter:
    """How an encoder differs from timm's.

    Attributes:
        make: facts -> network under whose names the weights are loaded.
        convert: (published state, network) -> state under the network's names.
    """

    make: Callable[[PathologyEncoder], nn.Module] = make_network
    convert: Convert | None = None


ADAPTERS: dict[AdapterName, Adapter] = {
    "timm": Adapter(),
    "dinov2": Adapter(convert=dinov2.to_timm),
    "attention_pool": Adapter(attention_pool.make_tower, attention_pool.to_input_grid),
    "conv_stem": Adapter(conv_stem.make_swin, conv_stem.to_timm),
}


def build(name: str, options: NoOptions, weights: str | None) -> Encoder:
    """See `wsi_ncmi.encoders.build_encoder`."""
    row = PUBLISHED[name]
    path = Path(weights) if weights is not None else download(row)
    module = _load(row, path)
    where = path.name if weights is not None else f"{row.repository}, {row.filename}"
    source = f"{where} (sha256 {sha256_file(path)})"
    return Encoder(
        name=name,
        description=f"{row.title}, weights from {source}, {row.page}",
        module=module,
        dim=row.dim,
        input_px=row.input_px,
        mean=row.mean,
        std=row.std,
        weights_source=source,
        weights_sha256=state_sha256(module),
        mpp=row.mpp,
        licence=row.licence,
        options={
            "architecture": row.architecture,
            "arguments": dict(row.arguments),
            "pooling": row.pooling,
        },
    )


def _load(row: PathologyEncoder, path: Path) -> nn.Module:
    """The network of a row with the weights of a file, in eval mode on the CPU."""
    adapter = ADAPTERS[row.adapter]
    network = adapter.make(row)
    load_weights(network, path, adapter.convert)
    module = ClassAndMean(network) if row.pooling == "class_mean" else network
    return module.eval().requires_grad_(False)
