"""Commands `bags verify` and `bags info`."""

import errno
import os
import shutil
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch
from made_tiled import tiled_slide

from wsi_ncmi import cli
from wsi_ncmi.bags.store import Bag, write_bag
from wsi_ncmi.errors import BagError
from wsi_ncmi.files import patience
from wsi_ncmi.tiling import tilefile
from wsi_ncmi.tools.bags.verify import run

Captured = pytest.CaptureFixture[str]


def make(path: Path, seed: int, digest: str) -> Path:
    rng = np.random.default_rng(seed)
    bag = Bag(
        features=rng.normal(size=(5, 8)).astype(np.float16),
        coords=rng.integers(0, 999, (5, 2)).astype(np.int32),
        tissue_fraction=np.ones(5, np.float16),
        invalid_coords=np.zeros((0, 2), np.int32),
        augmented=np.zeros((0, 5, 8), np.float16),
        coords_attributes={"patch_size": 256},
        attributes={"digest": digest, "encoder": "tiny", "mean": [0.5, 0.5, 0.5]},
    )
    write_bag(path, bag)
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three bags, their manifest, and files of a results folder that are no bags."""
    folder = tmp_path / "features" / "tiny"
    rows = ["slide_id\tstatus\treason\ttiles\tdigest"]
    for seed, name in enumerate("abc"):
        make(folder / f"{name}.h5", seed, f"digest-{name}")
        rows.append(f"{name}\tok\t\t5\tdigest-{name}")
    rows.append("glass\tno_tissue\tall glass\t0\t")
    (folder / "bucket-0.tsv").write_text("\n".join(rows) + "\n")
    tiles = tiled_slide("a", status="no_tissue", reason="all glass")
    tilefile.write(tmp_path / "tiles" / "a.h5", tiles)
    return folder


def flip(path: Path) -> None:
    with h5py.File(path) as file:
        place = file["features"].id.get_offset()
    raw = bytearray(path.read_bytes())
    raw[place] ^= 1
    path.write_bytes(bytes(raw))


def test_good_bags(folder: Path, tmp_path: Path, capsys: Captured) -> None:
    assert run(tmp_path, manifests=True) == 0
    expected = f"{tmp_path}: 3 of our own bags, 3 good, 0 bad, 1 other file(s) left out"
    assert capsys.readouterr().out.splitlines() == [expected]


def test_what_to_make_again(folder: Path, tmp_path: Path, capsys: Captured) -> None:
    flip(folder / "b.h5")
    (folder / "c.h5").write_bytes(b"torn")
    (folder / ".d.h5.part").write_bytes(b"half")
    assert run(tmp_path, manifests=False) == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith(f"{folder}/b.h5: the data do not match their checksum")
    assert lines[1].startswith(f"{folder}/c.h5: cannot be read as a bag")
    assert lines[2].startswith(f"{folder}/.d.h5.part: left by a write that was interrupted")
    assert lines[3].startswith("To make them again, remove the damaged files")
    assert lines[4:6] == [f"  rm {folder}/b.h5", f"  rm {folder}/c.h5"]
    assert lines[6].startswith("and run the workflow with the configuration that made them")
    assert lines[7] == "  snakemake --forcerun features"
    assert lines[8].startswith(f"{tmp_path}: 3 of our own bags, 1 good, 2 bad")


def test_bags_of_a_second_cohort_have_a_rule_of_their_own(
    folder: Path, tmp_path: Path, capsys: Captured
) -> None:
    place = tmp_path / "results/c/external/north/features/e"
    shutil.copytree(folder, place)
    flip(place / "b.h5")
    assert run(tmp_path, manifests=False) == 1
    assert "  snakemake --forcerun external_features" in capsys.readouterr().out.splitlines()
    flip(folder / "b.h5")
    assert run(tmp_path, manifests=False) == 1
    assert "  snakemake --forcerun external_features features" in capsys.readouterr().out


def test_a_leftover_alone(folder: Path, tmp_path: Path) -> None:
    (folder / ".d.h5.part").write_bytes(b"half")
    assert run(tmp_path, manifests=False) == 1


def test_bags_of_other_tools(tmp_path: Path, capsys: Captured) -> None:
    for name, datasets in {
        "clam": {"features": np.zeros((3, 4)), "coords": np.zeros((3, 2))},
        "stamp": {"feats": np.zeros((3, 4)), "coords": np.zeros((3, 2))},
        "trident": {"features": np.zeros((3, 4)), "coords": np.zeros((3, 2))},
        "packed": {"features": np.zeros((3, 4)), "offsets": [0, 3], "slide_id": [b"s"]},
    }.items():
        with h5py.File(tmp_path / f"{name}.h5", "w") as file:
            for key, value in datasets.items():
                file[key] = value
            if name == "trident":
                file["features"].attrs["encoder"] = "uni"
    assert run(tmp_path, manifests=True) == 0
    text = capsys.readouterr().out
    for layout in ("clam_h5 (CLAM", "stamp (STAMP", "trident (TRIDENT", "packed (many"):
        assert f"1 file(s) taken for {layout}" in text
    assert text.count("they carry no checksum and were not verified") == 4
    assert "0 of our own bags, 0 good, 0 bad" in text
    assert "remove" not in text
    (tmp_path / "torn.h5").write_bytes(b"torn")
    assert run(tmp_path, manifests=False) == 1
    text = capsys.readouterr().out
    assert "torn.h5: cannot be read as HDF5 (" in text
    assert "whose it is cannot be told" in text
    assert "remove" not in text


def test_tensors_alone(tmp_path: Path, capsys: Captured) -> None:
    torch.save(torch.zeros(3, 4), tmp_path / "s.pt")
    for path in (tmp_path, tmp_path / "s.pt"):
        assert run(path, manifests=False) == 0
        assert "1 file(s) taken for clam_pt" in capsys.readouterr().out


def test_an_unfinished_bag_of_ours(folder: Path, tmp_path: Path, capsys: Captured) -> None:
    alone = make(tmp_path / "alone" / "a.h5", 0, "digest")
    for bag, names in ((folder / "a.h5", ("complete", "format_version")), (alone, ("complete",))):
        with h5py.File(bag, "a") as file:
            for name in names:
                del file.attrs[name]
        assert run(bag, manifests=False) == 1
        text = capsys.readouterr().out
        assert "is not complete" in text
        assert f"remove the damaged files\n  rm {bag}" in text


def test_one_bag(folder: Path) -> None:
    assert run(folder / "a.h5", manifests=False) == 0
    flip(folder / "a.h5")
    assert run(folder / "a.h5", manifests=False) == 1
    assert run(folder / "b.h5", manifests=False) == 0


def test_against_the_manifests(folder: Path, capsys: Captured) -> None:
    (folder / "a.h5").unlink()
    make(folder / "b.h5", 1, "digest-old")
    make(folder / "glass.h5", 9, "digest-glass")
    assert run(folder, manifests=False) == 0
    capsys.readouterr()
    assert run(folder, manifests=True) == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[:3] == [
        f"{folder}/a.h5: is missing, although bucket-0.tsv has it",
        f"{folder}/b.h5: has digest digest-old, but bucket-0.tsv says digest-b",
        f"{folder}/glass.h5: is there, although bucket-0.tsv says no_tissue",
    ]
    assert [line for line in lines if line.startswith("  ")] == [
        f"  rm {folder}/b.h5",
        f"  rm {folder}/glass.h5",
        "  snakemake --forcerun features",
    ]


def test_a_bag_that_cannot_be_reached_is_not_to_be_removed(
    folder: Path, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = Path.open

    def lost(self: Path, *args: Any, **kwargs: Any) -> Any:
        if self == folder / "b.h5":
            raise OSError(errno.EIO, os.strerror(errno.EIO), str(self))
        return real(self, *args, **kwargs)

    monkeypatch.setattr(Path, "open", lost)
    monkeypatch.setattr(patience, "PAUSES", ())
    assert run(folder, manifests=True) == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines == [
        f"{folder}/b.h5: cannot be reached now, which says nothing about the bag "
        "(Input/output error)",
        f"{folder}: 3 of our own bags, 2 good, 0 bad, 1 not reached",
    ]


def test_a_table_that_is_no_manifest(folder: Path) -> None:
    (folder / "bucket-1.tsv").write_text("slide_id\tother\na\tb\n")
    with pytest.raises(BagError, match=r"bucket-1\.tsv: lacks slide_id, status or digest"):
        run(folder, manifests=True)


def test_no_bags(tmp_path: Path) -> None:
    with pytest.raises(BagError, match=r"no bags there or below it: no \*\.h5"):
        run(tmp_path, manifests=False)


def test_the_command_ends_with_1(folder: Path) -> None:
    cli.main(["bags", "verify", str(folder), "--manifest"])
    flip(folder / "a.h5")
    with pytest.raises(SystemExit) as stopped:
        cli.main(["bags", "verify", str(folder)])
    assert stopped.value.code == 1


# --- bags info -----------------------------------------------------------------------------------


def info(path: Path, capsys: Captured) -> list[str]:
    cli.main(["bags", "info", str(path)])
    return capsys.readouterr().out.splitlines()


def test_info_of_our_own(folder: Path, capsys: Captured) -> None:
    lines = info(folder / "a.h5", capsys)
    assert lines[1] == "taken for: wsi_ncmi (a bag of wsi-ncmi)"
    assert "  encoder = tiny" in lines
    assert "  mean = [0.5, 0.5, 0.5]" in lines
    assert "features: float16 [5, 8], contiguous" in lines
    assert "  coords.patch_size = 256" in lines
    assert "  format_version = 3" in lines


def test_info_of_others(tmp_path: Path, capsys: Captured) -> None:
    with h5py.File(tmp_path / "s.h5", "w") as file:
        file.create_dataset("feats", data=np.zeros((4, 3)), chunks=(1, 3), compression="gzip")
        file.attrs["note"] = "x" * 500
    lines = info(tmp_path / "s.h5", capsys)
    assert lines[1] == "taken for: stamp (STAMP: feats, and coords in µm)"
    assert "feats: float64 [4, 3], chunks (1, 3), gzip" in lines
    assert f"  note = {'x' * 100}…" in lines
    torch.save(torch.zeros(4, 192), tmp_path / "s.pt")
    assert info(tmp_path / "s.pt", capsys)[1:] == [
        "taken for: hipt (HIPT: regions [M, 192])",
        "tensor: float32 [4, 192]",
    ]
    torch.save(torch.zeros(4, 6, dtype=torch.bfloat16), tmp_path / "s.pt")
    assert info(tmp_path / "s.pt", capsys)[2:] == ["tensor: bfloat16 [4, 6]"]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("torn.h5", r"torn\.h5: cannot be read as HDF5"),
        ("torn.pt", r"torn\.pt: cannot be read as a tensor"),
        ("torn.txt", r"a bag is an \.h5 or a \.pt file, this is \.txt"),
        ("gone.h5", "no such file"),
    ],
)
def test_info_of_what_is_no_bag(tmp_path: Path, name: str, text: str) -> None:
    from wsi_ncmi.tools.bags import info as bags_info

    if not name.startswith("gone"):
        (tmp_path / name).write_bytes(b"torn")
    with pytest.raises(BagError, match=text):
        bags_info.run(tmp_path / name)
