"""Command `tiles show`: pictures of a slide or of a tile file."""

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import tifffile
from PIL import Image

from wsi_ncmi import cli
from wsi_ncmi.cohorts.sheet import SlideRow
from wsi_ncmi.config import Tiling
from wsi_ncmi.errors import SlideError
from wsi_ncmi.tiling import tilefile
from wsi_ncmi.tiling.one_slide import tile_slide
from wsi_ncmi.tools.tiles_show import GAP, SIDE, TITLE, Pictures, caption, row_of, run, sample

TILING = Tiling(mpp=1.0, tile_px=128)
TILE = (30, 90, 220)


@pytest.fixture
def slide(tmp_path: Path) -> Path:
    """2048 x 1536 px; the tissue's left half is red, its right half blue."""
    image = np.full((1536, 2048, 3), (240, 239, 241), np.uint8)
    noise = np.random.default_rng(0).integers(-20, 20, (512, 512, 1))
    image[512:1024, 512:1024] = np.clip(np.array((200, 90, 110)) + noise, 0, 255)
    image[512:1024, 1024:1536] = np.clip(np.array((110, 90, 200)) + noise, 0, 255)
    options = {"photometric": "rgb", "compression": "deflate", "tile": (256, 256)}
    with tifffile.TiffWriter(tmp_path / "s1.tif") as tiff:
        tiff.write(image, **options)
        half = cv2.resize(image, (1024, 768), interpolation=cv2.INTER_AREA)
        tiff.write(half, subfiletype=1, **options)
    return tmp_path / "s1.tif"


def picture(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        assert image.format == "PNG"
        return np.asarray(image)


def show(slide: Path, out: Path, count: int = 24, seed: int = 0) -> Pictures:
    return run(SlideRow(slide.stem, "", "", "", str(slide), 0.5), TILING, out, count, seed)


def shown_tile(sheet: np.ndarray, place: int) -> np.ndarray:
    x = GAP + place * (SIDE + GAP)
    return sheet[TITLE + GAP :, x:][:SIDE, :SIDE]


def test_pictures_of_a_slide(slide: Path, tmp_path: Path) -> None:
    found = show(slide, tmp_path / "out", count=4)
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == [
        "s1.overlay.png",
        "s1.tiles.png",
    ]
    overlay = picture(found.overlay)
    assert overlay.shape == (750, 1000, 3)
    # Blue lines on red tissue, where two tiles meet; JPEG keeps no more of their colour.
    bluer = overlay[290:310, :, 2].astype(int) > overlay[290:310, :, 0]
    assert bluer[:, 370:380].any(axis=1).all()
    assert not bluer[:, 260:360].any()
    sheet = picture(found.sample)
    assert sheet.shape[1] == GAP + 4 * (SIDE + GAP)
    for place, tile in enumerate(sample(8, 4, 0)):
        red, _, blue = shown_tile(sheet, place).reshape(-1, 3).mean(axis=0)
        assert (red > blue) == (tile % 4 < 2), place


def test_a_tile_file_is_shown_as_it_is(slide: Path, tmp_path: Path) -> None:
    tile_slide(SlideRow("s1", "", "", "", str(slide), 0.5), TILING, tmp_path / "tiles")
    other = Tiling(mpp=2.0, tile_px=32)
    path = tmp_path / "tiles" / "s1.h5"
    found = run(row_of(str(path), "", None), other, tmp_path / "out", 3, 0)
    fresh = show(slide, tmp_path / "fresh", count=3)
    assert np.array_equal(picture(found.sample), picture(fresh.sample))
    assert np.array_equal(picture(found.overlay), picture(fresh.overlay))
    (tmp_path / "tiles" / "overlays" / "s1.jpg").unlink()
    plain = picture(run(row_of(str(path), "", None), other, tmp_path / "out", 3, 0).overlay)
    assert (plain == TILE).all(axis=2).sum() > 500
    slide.unlink()
    with pytest.raises(SlideError, match=r"s1\.h5: its slide .*s1\.tif is not there any more"):
        run(row_of(str(path), "", None), other, tmp_path / "out", 3, 0)


def test_the_sample_is_the_same_each_time(slide: Path, tmp_path: Path) -> None:
    assert sample(100, 5, 0).tolist() == sample(100, 5, 0).tolist()
    assert sample(100, 5, 0).tolist() != sample(100, 5, 1).tolist()
    assert sample(3, 24, 0).tolist() == [0, 1, 2]
    first = picture(show(slide, tmp_path / "a", count=2).sample)
    assert np.array_equal(first, picture(show(slide, tmp_path / "b", count=2).sample))


def test_captions(slide: Path, tmp_path: Path) -> None:
    tile_slide(SlideRow("s1", "", "", "", str(slide), 0.5), TILING, tmp_path / "tiles")
    tiles = tilefile.read(tmp_path / "tiles" / "s1.h5")
    tiles.focus[:2] = (123.4, np.nan)
    tiles.pen[0], tiles.white[0] = 0.25, 0.004
    assert caption(tiles, 0) == "512, 512   tissue 100%\nfocus 123  pen 25%"
    assert caption(tiles, 1).endswith("\nnot decodable")


def test_a_tile_that_cannot_be_decoded_is_red(slide: Path, tmp_path: Path) -> None:
    tile_slide(SlideRow("s1", "", "", "", str(slide), 0.5), TILING, tmp_path / "tiles")
    path = tmp_path / "tiles" / "s1.h5"
    with tifffile.TiffFile(slide) as tiff:
        page = tiff.pages[1]
        # The native tile of level 1 at x 256-512, y 256-512, where the first four tiles lie.
        start, length = page.dataoffsets[5], page.databytecounts[5]
    raw = bytearray(slide.read_bytes())
    raw[start : start + length] = bytes(length)
    slide.write_bytes(bytes(raw))
    sheet = picture(run(row_of(str(path), "", None), TILING, tmp_path / "out", 8, 0).sample)
    bad = [i for i in range(6) if (shown_tile(sheet, i) == (255, 200, 200)).all()]
    assert bad == [0, 1, 4, 5]


def test_slides_that_cannot_be_shown(slide: Path, tmp_path: Path) -> None:
    (tmp_path / "broken.svs").write_text("this is no slide")
    with pytest.raises(SlideError, match=r"broken\.svs: no reader opens it"):
        show(tmp_path / "broken.svs", tmp_path / "out")
    with pytest.raises(SlideError, match=r"gone\.h5: no such tile file"):
        show(tmp_path / "gone.h5", tmp_path / "out")
    tifffile.imwrite(tmp_path / "glass.tif", np.full((512, 512, 3), 240, np.uint8), tile=(256, 256))
    with pytest.raises(SlideError, match=r"glass\.tif: no tile of 128 µm holds 25% tissue"):
        show(tmp_path / "glass.tif", tmp_path / "out")
    assert (tmp_path / "out" / "glass.overlay.png").is_file()
    unreadable = tilefile.UnreadableSlide(slide_id="bad", reason="no reader opens it")
    tilefile.write(tmp_path / "bad.h5", replace(unreadable, path="bad.svs"))
    with pytest.raises(SlideError, match=r"bad\.h5: no reader opens it"):
        show(tmp_path / "bad.h5", tmp_path / "out")


def test_the_command(slide: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "my.yaml").write_text("tiling: {mpp: 1.0, tile_px: 256}\n")
    arguments = [str(slide), "--mpp", "0.5", "--out", str(tmp_path / "out")]
    cli.main(["tiles", "show", *arguments, "--config", str(tmp_path / "my.yaml")])
    assert "s1.overlay.png: 2 tiles of 256 µm" in capsys.readouterr().out
    cli.main(["tiles", "show", *arguments, "--options", "{mpp: 1.0, tile_px: 128}"])
    assert "s1.overlay.png: 8 tiles of 128 µm" in capsys.readouterr().out
    both = ["--options", "{mpp: 2.0}", "--config", str(tmp_path / "my.yaml")]
    with pytest.raises(SystemExit):
        cli.main(["tiles", "show", *arguments, *both])
    assert "give --config or --options, not both" in capsys.readouterr().err


def test_the_sheet_of_a_configuration(
    slide: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    square = [[512, 512], [1024, 512], [1024, 1024], [512, 1024], [512, 512]]
    text = str({"type": "Polygon", "coordinates": [square]}).replace("'", '"')
    (tmp_path / "mask.geojson").write_text(text)
    head = "slide_id\tpath\tlabel\tpatient_id\tcentre\tmpp\tmask\n"
    sheet = tmp_path / "slides.tsv"
    sheet.write_text(f"{head}P-1\ts1.tif\ta\tp\tc\t0.5\tmask.geojson\n")
    config = tmp_path / "my.yaml"
    config.write_text(f"tiling: {{mpp: 1.0, tile_px: 128}}\nslides: {{sheet: {sheet}}}\n")
    monkeypatch.chdir(tmp_path)
    more = ["--out", str(tmp_path / "out"), "--config", str(config)]
    for asked in ("s1.tif", str(slide), "P-1"):
        cli.main(["tiles", "show", asked, *more])
        assert "P-1.overlay.png: 4 tiles of 128 µm" in capsys.readouterr().out
    cli.main(["tiles", "show", "P-1", "--mpp", "0.25", *more])  # half as many µm: a tile
    assert "P-1.overlay.png: 1 tiles of 128 µm" in capsys.readouterr().out
    sheet.write_text(f"{head}P-1\ts1.tif\ta\tp\tc\t\t\n")
    with pytest.raises(SystemExit):
        cli.main(["tiles", "show", "P-1", *more])
    error = capsys.readouterr().err
    assert "give it in the slide sheet's column 'mpp', or by --mpp" in error
    with pytest.raises(SystemExit):
        cli.main(["tiles", "show", "P-2", *more])
    assert f"P-2: neither a path nor a slide_id of {sheet}" in capsys.readouterr().err
    sheet.unlink()
    cli.main(["tiles", "show", "s1.tif", "--mpp", "0.5", *more])
    captured = capsys.readouterr()
    assert "s1.overlay.png: 8 tiles of 128 µm" in captured.out
    assert "slides.tsv: no such slide sheet: its mpp, mask and tissue.* are not" in captured.err


def test_tissue_of_the_sheet(slide: Path, tmp_path: Path) -> None:
    (tmp_path / "slides.tsv").write_text(
        "slide_id\tpath\tlabel\tpatient_id\tcentre\ttissue.min_saturation\nP-1\ts1.tif\ta\tp\tc\t0.1\n"
    )
    row = row_of(str(slide), str(tmp_path / "slides.tsv"), 0.5)
    assert (row.slide_id, row.mpp, row.tissue) == ("P-1", 0.5, (("min_saturation", 0.1),))
