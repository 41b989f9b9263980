"""CLAM with a single attention branch (Lu et al. 2021); `clam` has its equations."""

from wsi_ncmi.aggregators.clam import CLAM, RECIPE, Options
from wsi_ncmi.aggregators.interface import Aggregator

__all__ = ["RECIPE", "Options", "build"]


class SingleBranch(CLAM):
    """embedding = z_1; every instance classifier looks at the same attention."""

    def __init__(self, feature_dim: int, classes: int, options: Options) -> None:
        super().__init__(feature_dim, classes, options, branches=1)


def build(feature_dim: int, classes: int, options: Options) -> Aggregator:
    return SingleBranch(feature_dim, classes, options)
