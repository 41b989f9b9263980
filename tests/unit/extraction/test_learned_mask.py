from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from wsi_ncmi.config import Tissue
from wsi_ncmi.errors import PartError
from wsi_ncmi.extraction import learned_mask as module
from wsi_ncmi.extraction.learned_mask import MEAN, STD, learned_mask
from wsi_ncmi.tiling.tissue import tissue_mask

pytestmark = pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated:FutureWarning")


class Dark(nn.Module):
    """Tissue where a normalised image is darker than grey, by one logit or by two."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.classes = classes

    def forward(self, x: Tensor) -> Tensor:
        tissue = -10 * x.mean(dim=1, keepdim=True)
        if self.classes == 1:
            return tissue
        return torch.cat([torch.zeros_like(tissue)] * (self.classes - 1) + [tissue], dim=1)


class Half(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x[:, :1, ::2, ::2]


def script(folder: Path, network: nn.Module) -> str:
    path = folder / f"{type(network).__name__}-{getattr(network, 'classes', 0)}.ts"
    torch.jit.script(network).save(str(path))
    return str(path)


@pytest.fixture
def picture() -> np.ndarray:
    """uint8 [150, 230, 3]: white with a dark rectangle."""
    image = np.full((150, 230, 3), 245, np.uint8)
    image[30:100, 50:200] = (120, 60, 130)
    return image


def expected(picture: np.ndarray) -> np.ndarray:
    light = (picture / 255 - np.array(MEAN)) / np.array(STD)
    return light.mean(axis=2) < 0


@pytest.mark.parametrize("classes", [1, 2])
def test_torchscript_by_windows(
    tmp_path: Path, picture: np.ndarray, classes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = Tissue(method="model", weights=script(tmp_path, Dark(classes)))
    whole = learned_mask(picture, 8.0, options)
    np.testing.assert_array_equal(whole, expected(picture))
    monkeypatch.setattr(module, "WINDOW_PX", 64)
    monkeypatch.setattr(module, "MARGIN_PX", 16)
    np.testing.assert_array_equal(learned_mask(picture, 8.0, options), whole)


def test_the_probability_counts(tmp_path: Path, picture: np.ndarray) -> None:
    picture[30:100, 50:200] = 112  # hardly darker than the mean
    weights = script(tmp_path, Dark(1))
    for least, found in ((0.5, True), (1.0, False)):
        options = Tissue(method="model", weights=weights, min_probability=least)
        assert learned_mask(picture, 8.0, options).any() == found


def test_it_is_a_method_of_the_tissue_mask(tmp_path: Path, picture: np.ndarray) -> None:
    picture[:, 210:] = 0
    options = Tissue(method="model", weights=script(tmp_path, Dark(1)))
    mask = tissue_mask(picture, 8.0, options, learned_mask)
    assert mask[60, 100]
    assert not mask[:, 210:].any()  # padding is not tissue, whatever a network says


def test_a_timm_classifier_sees_patches(tmp_path: Path, picture: np.ndarray) -> None:
    torch.manual_seed(0)
    classifier = timm.create_model("test_resnet", num_classes=2).eval()
    path = tmp_path / "tissue.safetensors"
    save_file(classifier.state_dict(), path)
    options = {"method": "model", "weights": str(path), "architecture": "test_resnet"}
    data = timm.data.resolve_model_data_config(classifier)
    first = torch.from_numpy(picture[:32, :32]).permute(2, 0, 1)[None].float() / 255
    first = nn.functional.interpolate(
        first, data["input_size"][1:], mode="bilinear", antialias=True, align_corners=False
    )
    mean, std = (torch.tensor(data[k]).view(3, 1, 1) for k in ("mean", "std"))
    with torch.inference_mode():
        probability = classifier((first - mean) / std).softmax(dim=1)[0, 1].item()
    for least in (probability - 0.01, probability + 0.01):
        found = learned_mask(picture, 8.0, Tissue(**options, min_probability=least))
        assert found.shape == (150, 230)
        assert found[:32, :32].all() == found[:32, :32].any() == (least < probability)
    fine = learned_mask(picture, 8.0, Tissue(**options, patch_px=8, min_probability=0.0))
    assert fine.all()


def test_files_that_do_not_fit_are_named(tmp_path: Path, picture: np.ndarray) -> None:
    def fails(match: str, **options: str) -> None:
        with pytest.raises(PartError, match=match):
            learned_mask(picture, 8.0, Tissue(method="model", **options))

    fails(r"tissue\.weights none\.pt: no such file", weights="none.pt")
    fails(r"gives \[1, 1, 576, 576\] for \[1, 3, 1152, 1152\]", weights=script(tmp_path, Half()))
    fails("gives .*expected logits", weights=script(tmp_path, Dark(3)))
    junk = tmp_path / "junk.pt"
    junk.write_bytes(b"no archive")
    fails("junk.pt: no TorchScript file", weights=str(junk))
    state = tmp_path / "state.pt"
    torch.save({"weight": torch.zeros(2)}, state)
    fails("state.pt: no TorchScript file .*tissue.architecture", weights=str(state))
    fails("do not fit", weights=str(state), architecture="test_resnet")
    fails("timm has no such model", weights=str(state), architecture="no_such_net")
