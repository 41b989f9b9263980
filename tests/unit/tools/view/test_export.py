"""A folder that opens without a server: what the server sends, under the same names."""

import base64
import json
import re
from pathlib import Path

import pytest
from made_slides import BY_NAME, write_slide
from made_view import ABSENT, PAGE, SLIDE, browsing
from safetensors.numpy import load

from wsi_ncmi.errors import UserError
from wsi_ncmi.tools.view.app import Settings
from wsi_ncmi.tools.view.export import export
from wsi_ncmi.tools.view.results import Asked, Results
from wsi_ncmi.tools.view.single import Single

BUILT = {**PAGE, "index.html": b'<html lang="en" data-source="server"><script src="page/app.js">'}


def handed_over(path: Path) -> dict[str, bytes]:
    """What a script gives to the page: key -> bytes."""
    found = re.fullmatch(r'wsiBundle\["([^"]+)"\]="([A-Za-z0-9+/=]+)";\n', path.read_text())
    assert found is not None, path
    return {found[1]: base64.b64decode(found[2], validate=True)}


@pytest.fixture(scope="module")
def bundle(results: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("export") / "bundle"
    export(Results(results, Asked()), BUILT, Settings(), folder, [SLIDE, "slide_01"])
    return folder


def test_everything_is_as_the_server_sends_it(bundle: Path, results: Path) -> None:
    own = ("data/overview.json", "data/slides.json")
    with browsing(results) as client:
        files = sorted(p for p in bundle.rglob("*") if p.is_file())
        pictures = [p for p in files if p.suffix in (".jpg", ".png")]
        for path in pictures:
            key = path.relative_to(bundle).as_posix()
            assert path.read_bytes() == client.get(key).content, key
        scripts = [p for p in files if p.suffix == ".js" and p.parent.name != "page"]
        for path in scripts:
            key = path.relative_to(bundle).as_posix().removesuffix(".js")
            ((stated, content),) = handed_over(path).items()
            assert stated == key
            sent = client.get(key).content
            if key.endswith(".safetensors"):  # its metadata come in any order
                arrays, expected = load(content), load(sent)
                assert all((arrays[name] == expected[name]).all() for name in expected)
            elif key not in own and "predictions" not in key:
                assert content == sent, key
        for slide in (SLIDE, "slide_01"):
            for n, level in enumerate(client.get(f"slides/{slide}/info.json").json()["levels"]):
                tiles = bundle / "slides" / slide / "tiles" / str(n)
                assert len([*tiles.iterdir()]) == level["columns"] * level["rows"]
    assert {"grid.safetensors.js", "annotations.json.js", "mask.png", "thumbnail.jpg"} <= {
        path.name for path in (bundle / "slides" / SLIDE).iterdir()
    }
    assert (bundle / "slides" / SLIDE / "attention/stage/abmil/ncmi.safetensors.js").is_file()
    assert len([*(bundle / "slides" / SLIDE / "crops").iterdir()]) == 24


def test_the_tables_have_these_slides_alone(bundle: Path) -> None:
    rows = json.loads(handed_over(bundle / "data/slides.json.js")["data/slides.json"])["slides"]
    assert [row["id"] for row in rows] == [SLIDE, "slide_01"]
    key = "data/predictions/stage/abmil/ncmi.json"
    predicted = json.loads(handed_over(bundle / f"{key}.js")[key])["slides"]
    assert set(predicted) == {SLIDE, "slide_01"}


def test_the_page_knows_that_it_is_alone(bundle: Path) -> None:
    assert 'data-source="bundle"' in (bundle / "index.html").read_text()
    assert (bundle / "page" / "app.js").read_bytes() == PAGE["app.js"]


def refusal(folder: Path, results: Path, *slides: str, most_gb: float = 1.0) -> str:
    with pytest.raises(UserError) as caught:
        export(Results(results, Asked()), BUILT, Settings(), folder, slides, most_gb)
    return str(caught.value)


def test_what_is_refused(results: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert "has 60 slides: name a few with --slides" in refusal(out, results)
    assert "no slide nothing" in refusal(out, results, "nothing")
    large = refusal(out, results, SLIDE, most_gb=1e-5)
    assert re.search(r"would take about [\d.e-]+ GB \(slide_00 .* GB\), more than 1e-05", large)
    assert "--most-gb 0.1" in large
    assert not out.exists()
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").write_text("mine")
    assert "is not empty" in refusal(tmp_path / "full", results, SLIDE)
    assert [p.name for p in tmp_path.iterdir()] == ["full"]


def test_a_page_of_another_version_is_refused(results: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="make viewer"):
        export(Results(results, Asked()), PAGE, Settings(), tmp_path / "out", [SLIDE])
    assert [*tmp_path.iterdir()] == []


def test_a_slide_that_cannot_be_opened_is_a_row(results: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    export(Results(results, Asked()), BUILT, Settings(), out, [SLIDE, ABSENT])
    rows = json.loads(handed_over(out / "data/slides.json.js")["data/slides.json"])["slides"]
    assert [(row["id"], row["has_pictures"]) for row in rows] == [(SLIDE, True), (ABSENT, False)]
    assert not (out / "slides" / ABSENT).exists()


def test_a_single_slide(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write_slide(tmp_path / "a.tif", BY_NAME["jpeg_420"])
    export(Single(str(path)), BUILT, Settings(), tmp_path / "out")
    size = sum(p.stat().st_size for p in (tmp_path / "out").rglob("*") if p.is_file())
    files = sum(p.is_file() for p in (tmp_path / "out").rglob("*"))
    assert f"1 slide(s), {files} files, {size / 1e6:.1f} MB" in capsys.readouterr().out
