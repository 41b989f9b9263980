"""Small bags of known content."""

from collections.abc import Callable

import numpy as np
import pytest

from wsi_ncmi.bags.store import Bag

MakeBag = Callable[..., Bag]


@pytest.fixture
def make_bag() -> MakeBag:
    """A bag of `rows` features of 6 dimensions, all values from `seed`."""

    def make(rows: int = 5, seed: int = 0, copies: int = 0, **attributes: object) -> Bag:
        rng = np.random.default_rng(seed)
        return Bag(
            features=rng.normal(size=(rows, 6)).astype(np.float16),
            coords=rng.integers(0, 10_000, (rows, 2)).astype(np.int32),
            tissue_fraction=rng.random(rows).astype(np.float16),
            invalid_coords=np.array([[512, 1024]], np.int32),
            augmented=rng.normal(size=(copies, rows, 6)).astype(np.float16),
            coords_attributes={"patch_size": 256, "patch_level": 1},
            attributes={"digest": "d1", "encoder": "tiny", "mean": [0.5, 0.5, 0.5], **attributes},
        )

    return make
