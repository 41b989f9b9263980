"""Command `bags import`: every file is looked at; one packed file and a list of the refused."""

import csv
import errno
import os
import tracemalloc
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch

from wsi_ncmi import cli
from wsi_ncmi.bags.foreign import repack
from wsi_ncmi.bags.foreign.importers import open_source
from wsi_ncmi.bags.foreign.layouts import LAYOUTS, MANY_SLIDES
from wsi_ncmi.cli.bags import IMPORTED
from wsi_ncmi.errors import BagError
from wsi_ncmi.files import patience
from wsi_ncmi.tools.bags.importing import run

Features = np.ndarray[Any, Any]


def features(rows: int, seed: int = 0, dim: int = 6, dtype: type = np.float32) -> Features:
    return np.random.default_rng(seed).normal(size=(rows, dim)).astype(dtype)


def write(path: Path, **datasets: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w") as file:
        for name, value in datasets.items():
            file[name] = value


def bag(path: Path, rows: int, seed: int, **options: Any) -> Features:
    values = features(rows, seed, **options)
    write(path, features=values, coords=np.full((rows, 2), seed))
    return values


def refused(path: Path) -> dict[str, str]:
    """file -> reason."""
    with path.open(newline="") as file:
        return {row["file"]: row["reason"] for row in csv.DictReader(file, delimiter="\t")}


def contents(path: Path) -> dict[str, Any]:
    with h5py.File(path) as file:
        return {name: data[()] for name, data in file.items()}


def call(folder: Path, out: Path, layout: str = "auto", sheet: Path | None = None) -> int:
    return run(folder, layout, out, sheet, None)


def test_the_choices_of_the_command_are_the_layouts() -> None:
    assert set(IMPORTED) == {*LAYOUTS, *MANY_SLIDES}


def test_good_and_bad_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder, out = tmp_path / "h5_files", tmp_path / "packed.h5"
    good = {name: bag(folder / f"{name}.h5", n, n) for name, n in (("b", 4), ("a", 3), ("c", 1))}
    bag(folder / "wide.h5", 3, 7, dim=8)
    write(folder / "copy.h5", features=good["b"], coords=np.zeros((4, 2)))
    write(folder / "none.h5", features=features(0), coords=np.zeros((0, 2)))
    write(folder / "nan.h5", features=np.full((2, 6), np.nan))
    write(folder / "flat.h5", features=np.zeros(6, np.float32))
    write(folder / "ints.h5", features=np.zeros((2, 6), np.int16))
    write(folder / "half.h5", features=features(3), coords=np.zeros((2, 2)))
    write(folder / "stamp.h5", feats=features(3))
    (folder / "torn.h5").write_bytes((folder / "b.h5").read_bytes()[:700])
    bag(folder / "no id.h5", 2, 9)
    assert call(folder, out, "clam_h5") == 0
    found = contents(out)
    assert found["slide_id"].tolist() == [b"a", b"b", b"c"]
    assert found["offsets"].tolist() == [0, 3, 7, 8]
    assert np.array_equal(found["features"], np.concatenate([good["a"], good["b"], good["c"]]))
    assert found["coords"][:, 0].tolist() == [3] * 3 + [4] * 4 + [1]
    reasons = refused(tmp_path / "packed.refused.tsv")
    expected = {
        "wide.h5": "8 features, expected 6 as in 4 other bag(s)",
        "copy.h5": "the same features as b.h5: one slide twice would stand in two parts",
        "none.h5": "no instance",
        "nan.h5": "features are not finite",
        "flat.h5": "features are (6,), expected [N, D]: this is one vector for a whole slide",
        "ints.h5": "features are int16, expected floating point numbers",
        "half.h5": "half.h5: coords are (2, 2), expected (3, 2) for 3 features",
        "stamp.h5": "stamp.h5: no `features`: ['feats']",
        "torn.h5": "torn.h5: cannot be read as HDF5",
        "no id.h5": "the name is no slide_id",
    }
    assert set(reasons) == set(expected)
    for name, reason in expected.items():
        assert reasons[name].startswith(reason), name
    printed = capsys.readouterr().out
    assert "packed.h5: 3 slide(s), 8 instance(s) of 6 features (layout clam_h5)" in printed
    assert "10 refused, see" in printed


def test_what_is_packed_can_be_trained_on(tmp_path: Path) -> None:
    expected = {name: bag(tmp_path / "in" / f"{name}.h5", 5, n) for n, name in enumerate("ab")}
    assert call(tmp_path / "in", tmp_path / "packed.h5") == 0
    source = open_source(tmp_path / "packed.h5", "packed", ["b", "a"])
    a, b = source.bags()
    assert [(one.slide_id, one.reason) for one in (a, b)] == [("a", ""), ("b", "")]
    assert np.array_equal(b.features, expected["b"])
    assert (b.coords == 1).all()


def test_half_precision_stays_unless_one_is_more(tmp_path: Path) -> None:
    folder, out = tmp_path / "in", tmp_path / "packed.h5"
    bag(folder / "a.h5", 2, 0, dtype=np.float16)
    call(folder, out)
    assert contents(out)["features"].dtype == np.float16
    double = bag(folder / "b.h5", 2, 1, dtype=np.float64)
    call(folder, out)
    assert contents(out)["features"].dtype == np.float32
    assert np.array_equal(contents(out)["features"][2:], double.astype(np.float32))
    write(folder / "c.h5", features=np.full((2, 6), 1e300), coords=np.zeros((2, 2)))
    call(folder, out)
    assert refused(tmp_path / "packed.refused.tsv") == {"c.h5": "features are not finite"}


def test_tensors_and_regions(tmp_path: Path) -> None:
    folder, out = tmp_path / "in", tmp_path / "packed.h5"
    folder.mkdir()
    values = torch.from_numpy(features(3, dim=192)).bfloat16()
    torch.save(values, folder / "a.pt")
    torch.save(torch.zeros(2, 256, 384), folder / "deep.pt")
    torch.save({"state": values}, folder / "dict.pt")
    assert call(folder, out) == 0
    found = contents(out)
    assert np.array_equal(found["features"], values.float().numpy())
    assert "coords" not in found
    reasons = refused(tmp_path / "packed.refused.tsv")
    assert "HIPT's regions before pooling" in reasons["deep.pt"]
    assert reasons["dict.pt"] == "dict.pt: holds dict, expected a tensor [N, D]"


def test_one_name_with_two_contents_is_refused_whole(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    for place, seed in (("x", 0), ("y", 1)):
        write(folder / place / "twice.h5", feats=features(3, seed))
        write(folder / place / "same.h5", feats=features(4, 5))
    assert call(folder, tmp_path / "packed.h5", "stamp") == 0
    assert contents(tmp_path / "packed.h5")["slide_id"].tolist() == [b"same"]
    reasons = refused(tmp_path / "packed.refused.tsv")
    assert reasons["y/same.h5"].startswith("the same features as x/same.h5")
    assert set(reasons) == {"x/twice.h5", "y/twice.h5", "y/same.h5"}
    assert "several bags of this slide_id" in reasons["x/twice.h5"]


def test_a_sheet_chooses_slides_and_places_those_of_stamp(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, out, sheet = tmp_path / "in", tmp_path / "packed.h5", tmp_path / "sheet.tsv"
    for n, name in enumerate("abc"):
        write(folder / f"{name}.h5", feats=features(2, n), coords=np.array([[0, 0], [128.0, 64]]))
        with h5py.File(folder / f"{name}.h5", "r+") as file:
            file.attrs["unit"] = "um"
    lines = ["slide_id\tlabel\tpatient_id\tcentre\tmpp"]
    lines += [f"{s}\tx\tp{s}\tc\t{mpp}" for s, mpp in (("a", 0.5), ("b", 0.25), ("gone", 1))]
    sheet.write_text("\n".join(lines) + "\n")
    assert call(folder, out, sheet=sheet) == 0
    found = contents(out)
    assert found["slide_id"].tolist() == [b"a", b"b"]
    assert found["coords"].tolist() == [[0, 0], [256, 128], [0, 0], [512, 256]]
    with (tmp_path / "packed.refused.tsv").open() as file:
        assert file.read().splitlines()[1:] == ["gone\t\tno bag of this slide_id"]
    assert "1 bag(s) are of no slide of the sheet" in capsys.readouterr().out
    assert call(folder, out) == 0
    assert "coords" not in contents(out)
    assert "no coordinates are written, 3 bag(s) have none" in capsys.readouterr().out


def test_packed_to_packed_keeps_labels(tmp_path: Path) -> None:
    source, out = tmp_path / "all.h5", tmp_path / "packed.h5"
    values = features(6)
    values[2] = np.nan
    names = {"slide_id": [b"c", b"bad", b"a"], "label": [b"z", b"y", b"x"]}
    write(source, features=values, offsets=[0, 2, 3, 6], **names)
    with h5py.File(source, "r+") as file:
        file.attrs["encoder"] = "theirs"
    assert call(source, out) == 0
    found = contents(out)
    assert found["slide_id"].tolist() == [b"a", b"c"]
    assert found["label"].tolist() == [b"x", b"z"]
    assert np.array_equal(found["features"], values[[3, 4, 5, 0, 1]])
    assert refused(tmp_path / "packed.refused.tsv") == {"all.h5:bad": "features are not finite"}
    with h5py.File(out) as file:
        assert (file.attrs["encoder"], file.attrs["layout"]) == ("theirs", "packed")


def test_nothing_usable_writes_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(tmp_path / "in" / "a.h5", features=np.full((2, 6), np.inf))
    (tmp_path / "packed.h5").write_bytes(b"of an earlier import")
    assert call(tmp_path / "in", tmp_path / "packed.h5") == 1
    assert (tmp_path / "packed.h5").read_bytes() == b"of an earlier import"
    assert refused(tmp_path / "packed.refused.tsv") == {"a.h5": "features are not finite"}
    assert "none of 1 bag(s) can be used; nothing was written" in capsys.readouterr().out


def test_a_file_that_changes_while_it_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, out = tmp_path / "in" / "a.h5", tmp_path / "packed.h5"
    bag(path, 3, 0)
    real = repack.write_packed

    def slow(*arguments: Any) -> None:
        bag(path, 3, 1)
        real(*arguments)

    monkeypatch.setattr("wsi_ncmi.tools.bags.importing.write_packed", slow)
    with pytest.raises(BagError, match=r"a\.h5: changed while it was imported"):
        call(tmp_path / "in", out)
    assert not out.exists()
    assert list(tmp_path.glob(".*.part")) == []


def test_memory_holds_one_bag_at_a_time(tmp_path: Path) -> None:
    def peak(count: int) -> int:
        folder = tmp_path / str(count)
        for i in range(count):
            bag(folder / f"s{i:03d}.h5", 2000, i, dim=64)  # 512 kB each
        tracemalloc.start()
        call(folder, tmp_path / f"{count}.h5")
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return most

    peak(1)
    assert peak(24) < peak(3) + 1_000_000


def test_the_command(tmp_path: Path) -> None:
    bag(tmp_path / "in" / "a.h5", 3, 0)
    (tmp_path / "in" / "b.h5").write_bytes(b"torn")
    out, table = tmp_path / "packed.h5", tmp_path / "list.tsv"
    arguments = ["--layout", "clam_h5", "--out", str(out), "--refused", str(table)]
    cli.main(["bags", "import", str(tmp_path / "in"), *arguments])
    assert list(refused(table)) == ["b.h5"]
    (tmp_path / "in" / "a.h5").unlink()
    with pytest.raises(SystemExit) as stopped:
        cli.main(["bags", "import", str(tmp_path / "in"), *arguments])
    assert stopped.value.code == 1


def test_real_bags(shared_data: Path, tmp_path: Path) -> None:
    source = shared_data / "bags" / "tcga_hipt_regions.h5"
    assert call(source, tmp_path / "packed.h5") == 0
    with h5py.File(source) as old, h5py.File(tmp_path / "packed.h5") as new:
        assert len(new["slide_id"]) == len(old["slide_id"]) == 2800
        place = list(new["slide_id"][:]).index(old["slide_id"][7])
        rows = slice(*new["offsets"][place : place + 2])
        assert np.array_equal(new["features"][rows], old["features"][slice(*old["offsets"][7:9])])
        assert new["label"][place] == old["label"][7]


class _Program:
    def __reduce__(self) -> tuple[Any, ...]:
        raise_ = "raise SystemExit('code in a file was run')"
        return exec, (raise_,)


def test_a_pickled_program_and_a_long_list(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "pt_files"
    folder.mkdir()
    torch.save(torch.ones(3, 6), folder / "good.pt")
    for number in range(7):
        torch.save(_Program(), folder / f"p{number}.pt")
    assert call(folder, tmp_path / "packed.h5", "clam_pt") == 0
    printed = capsys.readouterr().out
    assert "holds more than tensors, or is damaged; code in files is never run" in printed
    assert "\n  and 2 more\n" in printed
    reasons = refused(tmp_path / "packed.refused.tsv")
    assert len(reasons) == 7
    assert not any("weights_only" in reason for reason in reasons.values())


def test_a_bag_that_cannot_be_reached_is_not_left_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The packed file would be taken for the whole, and the bag be missing for good."""
    for n, name in enumerate("abc"):
        bag(tmp_path / "in" / f"{name}.h5", 5, n)
    real = Path.open

    def lost(self: Path, *args: Any, **kwargs: Any) -> Any:
        if self.name == "b.h5":
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(self))
        return real(self, *args, **kwargs)

    monkeypatch.setattr(patience, "PAUSES", ())
    with monkeypatch.context() as lose:
        lose.setattr(Path, "open", lost)
        assert call(tmp_path / "in", tmp_path / "packed.h5") == 1
    printed = capsys.readouterr().out
    assert (
        "b.h5: cannot be reached now, which says nothing about the bag (Permission den" in printed
    )
    assert "1 bag(s) cannot be reached now: nothing was written; give the command" in printed
    assert not (tmp_path / "packed.h5").exists()
    assert call(tmp_path / "in", tmp_path / "packed.h5") == 0
