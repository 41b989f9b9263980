import hashlib
import string

import numpy as np
import pytest

from wsi_ncmi.config import ImageTask
from wsi_ncmi.errors import PartError
from wsi_ncmi.images.data import open_source, partition, split_table
from wsi_ncmi.images.datasets.interface import DatasetError

TIMM = "package:timm/data/_info/imagenet_synset_to_definition.txt"
DIGEST = "191e227d48fc8c7b7e2d2a3cac41fc8b2eb517d9d2819d0edbc91c5767250eed"


def task(path, options, **settings):
    return ImageTask(dataset="characters", path=str(path), options=options, **settings)


@pytest.fixture
def text(tmp_path):
    """3,000 characters of an alphabet of five, and their file."""
    signs = np.random.default_rng(0).choice(list("abcd "), 3000, p=[0.4, 0.3, 0.15, 0.1, 0.05])
    found = " ".join("".join(signs).split())
    path = tmp_path / "text.txt"
    path.write_text(found)
    return found, path


def test_a_sample_is_what_stands_before_its_character(text):
    found, path = text
    dataset = open_source(task(path, {"context": 7, "stretch": 100}))
    names = [" " if name == "space" else name for name in dataset.classes]
    assert names == sorted(set(found), key=lambda sign: -found.count(sign))
    for images in (dataset.train, dataset.test):
        for i in range(0, len(images), 37):
            end = int(images.ids[i].split("-")[1])
            window = "".join(names[number] for number in images.pixels[i])
            assert (window, names[images.targets[i]]) == (found[end - 7 : end], found[end])
            assert images.groups[i] == f"stretch-{end // 100:06d}"


def test_no_character_is_in_two_parts(text):
    _, path = text
    one = task(path, {"context": 7, "stretch": 100, "stride": 3}, validation_fraction=0.2)
    parts = partition(open_source(one), one)
    seen = {
        part: {int(name[-8:]) - back for name in images.ids for back in range(8)}
        for part, images in parts.items()
    }
    assert all(seen.values())
    assert not seen["train"] & seen["test"]
    assert not seen["train"] & seen["val"]
    assert not seen["val"] & seen["test"]
    table = split_table(parts, open_source(one).classes)
    by_stretch = table.groupby("patient_id")["part"].nunique()
    assert len(by_stretch) == 30
    assert (by_stretch == 1).all()


def test_rare_characters_are_one_class(tmp_path):
    path = tmp_path / "text.txt"
    path.write_text("aaaa bbbb x\n\n\n Y;" * 100)
    options = {"context": 3, "stretch": 50, "symbols": 4}
    dataset = open_source(task(path, options))
    assert dataset.classes == ["a", "b", "space", "other"]
    dataset = open_source(task(path, {**options, "symbols": 7, "without": r"Y;$"}))
    assert dataset.classes == ["a", "b", "space", "x", "line end", "semicolon", "y"]


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        (
            {"sha256": "0" * 64},
            DatasetError,
            "SHA-256 .*, expected 0{64}: it is another text",
        ),
        ({"start": 9000}, DatasetError, "0 characters, expected more than the context of 32"),
        ({"stretch": 20}, PartError, "stretch must be longer than context: found 20 and 32"),
        ({"without": "("}, PartError, "without is no regular expression"),
    ],
)
def test_what_cannot_be_a_text_is_said(text, options, error, message):
    with pytest.raises(error, match=message):
        open_source(task(text[1], options))


def test_the_text_that_timm_brings():
    """Another text under the same name would make the experiment another one."""
    options = {"sha256": DIGEST, "length": 60_000, "without": r"^n\d{8}\t", "stride": 5}
    dataset = open_source(task(TIMM, options))
    assert hashlib.sha256(dataset.files[0].read_bytes()).hexdigest() == DIGEST
    signs = {"space": " ", "left parenthesis": "("}
    names = [signs.get(name, name) for name in dataset.classes]
    first = dataset.train if dataset.train.ids[0] < dataset.test.ids[0] else dataset.test
    window = "".join(names[number] for number in first.pixels[0])
    assert window == "a living thing that has (or can "
    assert set(string.ascii_lowercase) - {"z", "q", "x"} <= set(names)
