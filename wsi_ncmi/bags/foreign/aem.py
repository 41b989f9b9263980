"""The layout of AEM's and ACMIL's published features: one HDF5 file with a group per slide.

Read from the extraction script (github.com/dazhangyu123/AEM, `Step2_feature_extract.py`, commit
98a1f78): `patch_feats_pretrain_<encoder>.h5` has one group per slide, named by it, with `feat`
float16 [N, D], then `coords` [N, 2], level-0 pixels as CLAM's patching writes them, then the
attribute `label`, the class as a number. The data set `dazhangyu123/AEM-dataset` on Hugging Face
holds CAMELYON-16 and -17 in it.
"""

from pathlib import Path

from wsi_ncmi.bags.foreign.layouts import ForeignBag, coordinates_problem, pixels
from wsi_ncmi.bags.foreign.tensors import plain_label
from wsi_ncmi.bags.store import reading
from wsi_ncmi.errors import BagError
from wsi_ncmi.files.hdf5 import open_hdf5


class AemFile:
    """An open file of this layout, read one slide at a time.

    Attributes:
        slide_ids: the names of the groups, sorted; also of those that turn out to be unusable.
        attributes: of the file.

    Raises:
        BagError: it is not HDF5, is cut off, or has no group.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        with reading(path, "HDF5"):
            self._file = open_hdf5(path)
        self.attributes = self._file.attrs
        self.slide_ids = sorted(name for name in self._file.groups if "/" not in name)
        if not self.slide_ids:
            found = sorted(self._file)[:5]
            raise BagError(f"{path}: no group per slide, as the layout aem has; found {found}")

    def read(self, slide_id: str) -> ForeignBag:
        """One slide's features, coordinates and label.

        Raises:
            BagError: the group lacks `feat` or `label`, or its parts do not fit together.
        """
        where, group = f"{self.path.name}: slide {slide_id}", f"{slide_id}/"
        arrays = {k.removeprefix(group): d for k, d in self._file.items() if k.startswith(group)}
        label = self._file.groups[slide_id].get("label")
        if "feat" not in arrays:
            raise BagError(f"{where}: no `feat`; found {sorted(arrays)}")
        if label is None:
            raise BagError(
                f"{where}: no attribute `label`, which is written last: it may be half written"
            )
        with reading(where, "HDF5"):
            features = arrays["feat"][:]
            coords = arrays["coords"][:] if "coords" in arrays else None
        if coords is None:
            return ForeignBag(features, None, "the group holds no coordinates", plain_label(label))
        problem = coordinates_problem(features, coords)
        if problem:
            raise BagError(f"{where}: {problem}")
        return ForeignBag(features, pixels(where, coords), "", plain_label(label))
