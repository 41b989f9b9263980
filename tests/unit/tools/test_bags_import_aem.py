"""`bags import` of published features: AEM's file of groups, torchmil's folders of arrays."""

import tracemalloc
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from wsi_ncmi.bags.foreign.aem import AemFile
from wsi_ncmi.bags.foreign.discover import layout_of, recognise
from wsi_ncmi.cohorts.camelyon17 import sheet_rows
from wsi_ncmi.cohorts.label_versions import STAGES, read_labels
from wsi_ncmi.cohorts.sheet import write_sheet as write_rows
from wsi_ncmi.errors import BagError
from wsi_ncmi.tools.bags.importing import run
from wsi_ncmi.tools.bags.sheet import sheet as write_sheet

DIM = 6


def feat(rows: int, seed: int, dim: int = DIM) -> np.ndarray[Any, Any]:
    return np.random.default_rng(seed).normal(size=(rows, dim)).astype(np.float16)


def add(file: h5py.File, name: str, values: Any, label: object = 0, coords: Any = None) -> None:
    group = file.create_group(name)
    group["feat"] = values
    group["coords"] = np.full((len(values), 2), 256) if coords is None else coords
    if label is not None:
        group.attrs["label"] = label


def contents(path: Path) -> dict[str, Any]:
    with h5py.File(path) as file:
        return {name: data[()] for name, data in file.items()}


def refused(path: Path) -> dict[str, str]:
    lines = [line.split("\t") for line in path.read_text().splitlines()[1:]]
    return {slide_id: reason for slide_id, _, reason in lines}


@pytest.fixture
def published(tmp_path: Path) -> Path:
    """Two good slides, and what can be wrong with others."""
    path = tmp_path / "patch_feats_pretrain_medical_ssl.h5"
    with h5py.File(path, "w") as file:
        add(file, "patient_002_node_1", feat(3, 1), np.int64(2), [[0, 0], [512, 0], [512, 512]])
        add(file, "patient_000_node_0", feat(2, 0), 0)
        add(file, "patient_003_node_0", feat(2, 3), label=None)
        add(file, "patient_004_node_0", np.full((2, DIM), np.nan, np.float16))
        add(file, "patient_005_node_0", feat(2, 0), 1)  # the bytes of patient_000_node_0
        add(file, "patient_006_node_0", feat(3, 6), coords=np.zeros((2, 2), np.int64))
        add(file, "patient_007_node_0", feat(2, 7, dim=4))
        file.create_group("patient_008_node_0")["coords"] = np.zeros((2, 2))
    return path


def test_groups_become_a_packed_file(published: Path, tmp_path: Path) -> None:
    out = tmp_path / "bags.h5"
    assert recognise(published) == layout_of(published) == "aem"
    assert run(published, "aem", out, None, None) == 0
    found = contents(out)
    assert found["slide_id"].tolist() == [b"patient_000_node_0", b"patient_002_node_1"]
    assert found["label"].tolist() == [b"0", b"2"]
    assert found["offsets"].tolist() == [0, 2, 5]
    assert found["features"].dtype == np.float16
    assert np.array_equal(found["features"], np.concatenate([feat(2, 0), feat(3, 1)]))
    assert found["coords"].tolist() == [[256, 256]] * 2 + [[0, 0], [512, 0], [512, 512]]
    reasons = refused(tmp_path / "bags.refused.tsv")
    assert "no attribute `label`, which is written last" in reasons["patient_003_node_0"]
    assert reasons["patient_004_node_0"] == "features are not finite"
    assert reasons["patient_005_node_0"].startswith("the same features as")
    assert "coords are (2, 2), expected (3, 2)" in reasons["patient_006_node_0"]
    assert "4 features, expected 6" in reasons["patient_007_node_0"]
    assert "no `feat`; found ['coords']" in reasons["patient_008_node_0"]
    assert len(reasons) == 6


def test_a_download_that_was_cut_is_named(published: Path, tmp_path: Path) -> None:
    published.write_bytes(published.read_bytes()[:-3000])
    with pytest.raises(BagError, match=r"medical_ssl\.h5: cannot be read as HDF5 .*truncated"):
        run(published, "aem", tmp_path / "bags.h5", None, None)
    assert not (tmp_path / "bags.h5").exists()


def test_other_files_are_none_of_this_layout(published: Path, tmp_path: Path) -> None:
    with h5py.File(tmp_path / "flat.h5", "w") as file:
        file["features"] = feat(2, 0)
    with pytest.raises(BagError, match=r"flat\.h5: no group per slide.*found \['features'\]"):
        AemFile(tmp_path / "flat.h5")
    with pytest.raises(BagError, match="one file that holds many slides: name it"):
        run(tmp_path, "aem", tmp_path / "bags.h5", None, None)
    folder = tmp_path / "folder"
    folder.mkdir()
    published.rename(folder / "all.h5")
    with pytest.raises(BagError, match=r"all\.h5: holds many slides \(layout aem\): name the file"):
        layout_of(folder)


def test_labels_that_differ_from_the_sheet_are_listed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Both label files of CAMELYON-17 are in circulation: which slides differ must be seen."""
    path, sheet = tmp_path / "all.h5", tmp_path / "sheet.tsv"
    with h5py.File(path, "w") as file:
        for n, label in enumerate([0, 0, 1, 1, 1, 3]):
            add(file, f"s{n}", feat(1, n), label)
    names = ["negative", "negative", "itc", "itc", "negative"]
    lines = ["slide_id\tlabel\tpatient_id\tcentre"]
    lines += [f"s{n}\t{name}\tp{n}\tc" for n, name in enumerate(names)]
    sheet.write_text("\n".join(lines) + "\n")
    assert run(path, "auto", tmp_path / "bags.h5", sheet, None) == 0
    told = capsys.readouterr().out
    assert "by the sheet: 0 is negative, 1 is itc; 1 slide(s) differ" in told
    assert "  s4 (1, sheet: negative)\n" in told
    assert "1 bag(s) are of no slide of the sheet" in told  # s5


def test_the_two_label_files_of_camelyon17(
    shared_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The published features carry the alternative labels, which differ on six slides."""
    labels = shared_data / "labels"
    ours = sheet_rows(read_labels(labels / "camelyon17_stage_labels.csv"), "s3://bucket")
    write_rows(ours, tmp_path / "sheet.tsv")
    theirs = read_labels(labels / "camelyon17_alternative_labels.csv")
    theirs = [row for row in theirs if row.patient_id[-3:] in ("022", "038") or row.centre == "4"]
    with h5py.File(tmp_path / "all.h5", "w") as file:
        for n, row in enumerate(theirs):
            add(file, row.slide_id, np.full((1, DIM), n, np.float16), STAGES.index(row.label))
    run(tmp_path / "all.h5", "aem", tmp_path / "bags.h5", tmp_path / "sheet.tsv", None)
    told = capsys.readouterr().out
    assert "0 is negative, 1 is itc, 2 is micro, 3 is macro; 6 slide(s) differ" in told
    assert "  patient_089_node_3 (2, sheet: itc)\n" in told


def test_memory_holds_one_bag_at_a_time(tmp_path: Path) -> None:
    def peak(count: int) -> int:
        path = tmp_path / f"of-{count}.h5"
        with h5py.File(path, "w") as file:
            for i in range(count):
                add(file, f"s{i:03d}", feat(4000, i, dim=64))  # 512 kB each
        tracemalloc.start()
        run(path, "aem", tmp_path / f"{count}.h5", None, None)
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return most

    peak(1)
    assert peak(24) < peak(3) + 1_000_000


def test_torchmil_folders(tmp_path: Path) -> None:
    root = tmp_path / "patches_512"
    for n, name in enumerate(["tumor_001", "normal_001"]):
        for part, values in (
            ("features/features_UNI", feat(2, n).astype(np.float32)),
            ("labels", np.array([1 - n])),
            ("coords", np.zeros((2, 2))),
        ):
            (root / part).mkdir(parents=True, exist_ok=True)
            np.save(root / part / f"{name}.npy", values)
    (root / "features/features_UNI/test_001.npy").write_bytes(b"\x93NUMPY torn")
    out = tmp_path / "bags.h5"
    assert layout_of(root) == "torchmil"
    assert run(root, "auto", out, None, None) == 0
    found = contents(out)
    assert found["slide_id"].tolist() == [b"normal_001", b"tumor_001"]
    assert found["label"].tolist() == [b"0", b"1"]
    assert np.array_equal(found["features"][:2], feat(2, 1).astype(np.float32))
    assert "coords" not in found
    assert "test_001.npy: cannot be read" in refused(tmp_path / "bags.refused.tsv")["test_001"]


def test_a_sheet_needs_patients(published: Path, tmp_path: Path) -> None:
    run(published, "aem", tmp_path / "bags.h5", None, None)
    with pytest.raises(BagError, match="a sheet needs slide_id, label and one of patient_id"):
        write_sheet(tmp_path / "bags.h5", tmp_path / "sheet.tsv")
