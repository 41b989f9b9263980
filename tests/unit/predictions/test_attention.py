"""The file of a slide's attention: written and read, and refused where it is not one."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from wsi_ncmi.errors import AbsentError, UserError
from wsi_ncmi.predictions.attention import (
    SlideAttention,
    attention_path,
    read_attention,
    write_attention,
)

COORDS = np.array([[0, 0], [512, 0], [0, 512]], np.int32)
WEIGHTS = {
    "abmil/ncmi": np.array([0.5, 0.25, 0.25], np.float32),
    "abmil-16.v2/cross_entropy": np.array([0, 0.125, 0.875], np.float32),
}


def made(**changed: Any) -> SlideAttention:
    return SlideAttention(**{"slide_id": "s.1", "coords": COORDS, "weights": WEIGHTS, **changed})


def test_what_is_written_is_read(tmp_path: Path) -> None:
    path = attention_path(tmp_path / "weights", "s.1")
    assert path == tmp_path / "weights" / "s.1.h5"
    write_attention(path, made())
    found = read_attention(path)
    assert found.slide_id == "s.1"
    assert (found.coords.dtype, found.coords.tolist()) == (np.int32, COORDS.tolist())
    assert set(found.weights) == set(WEIGHTS)
    for arm, weights in WEIGHTS.items():
        assert found.weights[arm].dtype == np.float32
        np.testing.assert_array_equal(found.weights[arm], weights)
    assert [one.name for one in path.parent.iterdir()] == ["s.1.h5"]


def test_the_order_of_arms_does_not_change_the_bytes(tmp_path: Path) -> None:
    write_attention(tmp_path / "one.h5", made())
    write_attention(tmp_path / "other.h5", made(weights=dict(reversed(WEIGHTS.items()))))
    assert (tmp_path / "one.h5").read_bytes() == (tmp_path / "other.h5").read_bytes()


@pytest.mark.parametrize(
    ("changed", "text"),
    [
        (
            {"coords": COORDS[:2]},
            r"weights of abmil/ncmi are float32 \[3\], expected float32 \[2\]",
        ),
        ({"coords": COORDS[:, 0]}, r"coords are int32 \[3\], expected int32 \[N, 2\]"),
        ({"coords": COORDS / 2}, "coords are float64"),
        ({"weights": {}}, "the weights of no arm"),
        ({"weights": {"a/b": np.full(3, np.nan, np.float32)}}, "weights of a/b are not finite"),
    ],
)
def test_what_does_not_fit_is_not_written(
    tmp_path: Path, changed: dict[str, Any], text: str
) -> None:
    with pytest.raises(ValueError, match=text):
        write_attention(tmp_path / "s.h5", made(**changed))
    assert not list(tmp_path.iterdir())


def test_files_that_are_not_one_say_why(tmp_path: Path) -> None:
    path = tmp_path / "s.h5"
    with pytest.raises(AbsentError, match=r"s\.h5: no such file of attention"):
        read_attention(path)
    path.write_text("no HDF5")
    with pytest.raises(UserError, match=r"s\.h5: the file of attention is damaged .*make it again"):
        read_attention(path)
    with h5py.File(path, "w") as file:
        file["coords"] = COORDS
    with pytest.raises(UserError, match="no file of attention: its format is None"):
        read_attention(path)


def test_a_damaged_file_says_so(tmp_path: Path) -> None:
    path = tmp_path / "s.h5"
    write_attention(path, made())
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UserError, match=r"s\.h5: the file of attention is damaged"):
        read_attention(path)
    path.write_bytes(whole)
    with h5py.File(path, "a") as file:
        del file["coords"]
        file["coords"] = COORDS[:1]
    with pytest.raises(UserError, match=r"damaged \(the weights of .* expected float32 \[1\]\)"):
        read_attention(path)
    with h5py.File(path, "a") as file:
        del file["coords"]
    with pytest.raises(UserError, match=r"damaged .*coords"):
        read_attention(path)


def test_another_version_is_refused(tmp_path: Path) -> None:
    write_attention(tmp_path / "s.h5", made())
    with h5py.File(tmp_path / "s.h5", "a") as file:
        file.attrs["version"] = 2
    with pytest.raises(UserError, match=r"version 2 of the attention's format, this .* reads 1"):
        read_attention(tmp_path / "s.h5")


def test_it_needs_no_torch() -> None:
    code = "import sys, wsi_ncmi.predictions.attention; print({'torch', 'pandas'} & {*sys.modules})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
