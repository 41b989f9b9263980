"""Triton's kernels of NCMI compute what torch's operations do, run by Triton's interpreter."""

import logging
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from wsi_ncmi.losses.functional import few
from wsi_ncmi.losses.functional.problem import Forms

CPU = torch.device("cpu")
PLAN = few.Plan(Forms(direction="kl_p_q"), "mean_of_ratios")
# In a process of its own: kernels are interpreted or compiled, as it is when they are imported.
INTERPRETED = """
import torch
from wsi_ncmi.losses.functional import few, few_triton
from wsi_ncmi.losses.functional.problem import Forms

NSF, SOFTMAX = Forms(direction="kl_p_q"), Forms("softmax", "softmax", "kl_p_q")
CASES = [
    (7, 20, 3, torch.float32, NSF, {}),
    (40, 70, 10, torch.float64, NSF, {"weighted": True, "temperature": True}),
    (33, 64, 5, torch.float32, NSF, {"embedding": False}),
    (33, 64, 5, torch.float32, NSF, {"classes": False, "observed": False}),
    (12, 33, 4, torch.float64, SOFTMAX, {"separation": False}),
]

def given(samples, dim, count, dtype):
    z, centre = torch.randn(samples, dim, dtype=dtype), torch.randn(dim, dtype=dtype)
    z[0] = centre  # no direction
    target = torch.randint(0, count, (2 * samples,))[::2]
    xi, weights, prior = torch.randn(count, dim), torch.rand(count), torch.rand(count) + 0.5
    return [z, centre, torch.tensor(0.5), xi, target, weights, prior]

torch.manual_seed(0)
for samples, dim, count, dtype, forms, options in CASES:
    plan = few.Plan(forms, "mean_of_ratios", **options)
    made = given(samples, dim, count, dtype)
    found, expected = few_triton.evaluate(*made, plan), few._evaluate(*made, torch.zeros(3), plan)
    assert len(found) == len(expected)
    for one, other in zip(found, expected):  # dtypes too
        close = {"rtol": 1e-9, "atol": 1e-11} if one.dtype == torch.float64 else {}
        torch.testing.assert_close(one, other, **close)
PLAN = few.Plan(NSF, "mean_of_ratios")
for place in (0, 3):  # a diverged network, or class
    made = given(7, 20, 3, torch.float32)
    made[place][1, 2] = torch.nan
    assert few._evaluate(*made, torch.zeros(3), PLAN)[0].isnan()
    assert few_triton.evaluate(*made, PLAN)[0].isnan()
made = given(7, 20, 3, torch.float64)
made[3][:] = (made[0] - made[1])[1] / (made[0] - made[1])[1].norm() / made[2]  # no separation
made[0][2:] = made[0][1]
found, expected = few_triton.evaluate(*made, PLAN), few._evaluate(*made, torch.zeros(3), PLAN)
torch.testing.assert_close(found[2], expected[2], rtol=1e-9, atol=0)
print("done")
"""


def test_the_kernels_compute_what_torch_does(root: Path) -> None:
    pytest.importorskip("triton", reason="triton comes with torch for CUDA")
    environment = {**os.environ, "TRITON_INTERPRET": "1", "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", INTERPRETED],
        cwd=root,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "done"


def test_without_triton_torch_computes(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setitem(sys.modules, "wsi_ncmi.losses.functional.few_triton", None)
    assert few._triton.__wrapped__(CPU) is None
    assert "computed by torch's operations on cpu" in caplog.text
    assert "ModuleNotFoundError" in caplog.text


def test_where_triton_cannot_compile_torch_computes(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    pytest.importorskip("triton", reason="triton comes with torch for CUDA")
    from wsi_ncmi.losses.functional import few_triton

    def fails(device: torch.device) -> None:
        raise RuntimeError("Failed to find C compiler")

    monkeypatch.setattr(few_triton, "try_out", fails)
    with caplog.at_level(logging.WARNING):
        assert few._triton.__wrapped__(CPU) is None
    assert "RuntimeError: Failed to find C compiler" in caplog.text


@pytest.mark.parametrize(
    ("embedding", "classes", "plan", "suits"),
    [
        ((4, 8), (3, 8), PLAN, True),
        ((2, 4, 8), (2, 3, 8), PLAN, False),
        ((4, 8), (2, 3, 8), PLAN, False),
        ((4, 4097), (3, 4097), PLAN, False),
        ((4, 8), (3, 8), few.Plan(Forms(direction="kl_q_p"), "mean_of_ratios"), False),
        ((4, 8), (3, 8), few.Plan(Forms(direction="kl_p_q"), "ema_ratio"), False),
    ],
)
def test_the_kernels_are_for_one_model_in_the_default_forms(
    embedding: tuple[int, ...], classes: tuple[int, ...], plan: few.Plan, suits: bool
) -> None:
    pytest.importorskip("triton", reason="triton comes with torch for CUDA")
    from wsi_ncmi.losses.functional import few_triton

    assert few_triton.suits(torch.empty(embedding), torch.empty(classes), plan) is suits
