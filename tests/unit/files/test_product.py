"""One answer to "is it current?", whatever the result is."""

from pathlib import Path

import pytest

from wsi_ncmi.files.product import Product


@pytest.fixture
def record(tmp_path: Path) -> Path:
    path = tmp_path / "record"
    path.write_text("abc")
    return path


def test_a_result_is_current_if_its_record_states_what_is_asked_for(record: Path) -> None:
    assert Product("abc", record, Path.read_text).is_current
    assert not Product("abd", record, Path.read_text).is_current


def test_a_result_without_one_of_its_files_is_not_current(record: Path, tmp_path: Path) -> None:
    beside = tmp_path / "picture"
    product = Product("abc", record, Path.read_text, [beside])
    assert (product.recorded, product.is_current) == ("", False)
    beside.touch()
    assert (product.recorded, product.is_current) == ("abc", True)
    record.unlink()
    assert (product.recorded, product.is_current) == ("", False)


def test_nothing_is_current_for_a_source_that_cannot_be_read(record: Path) -> None:
    """Neither a result of some digest, nor one that states none."""
    assert not Product("", record, Path.read_text).is_current
    record.write_text("")
    assert not Product("", record, Path.read_text).is_current
