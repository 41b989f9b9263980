"""Command `doctor`: what is broken is found, what is only an extra stops nobody."""

import json
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock

import huggingface_hub
import imagecodecs
import openslide
import pytest
import torch
from huggingface_hub.errors import GatedRepoError

from wsi_ncmi import cli
from wsi_ncmi import machine as this_machine
from wsi_ncmi.config import Extraction
from wsi_ncmi.machine import MemoryLimit
from wsi_ncmi.tools.doctor import (
    command as doctor,
)
from wsi_ncmi.tools.doctor import (
    machine as doctor_machine,
)
from wsi_ncmi.tools.doctor import (
    software as doctor_software,
)
from wsi_ncmi.tools.doctor.command import run
from wsi_ncmi.tools.doctor.findings import Finding

SECRET = "hf_thisIsNoTokenAtAll"


@pytest.fixture(autouse=True)
def _no_login(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huggingface_hub, "get_token", lambda: None)
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)


def found(findings: list[Finding], name: str) -> Finding:
    (only,) = [finding for finding in findings if finding.name == name]
    return only


def test_this_machine_has_what_is_needed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(tmp_path, None, as_json=False) == 0
    text = capsys.readouterr().out
    assert "needed and missing or broken: nothing" in text
    for area in ("versions", "readers", "codecs", "extras", "machine", "weights"):
        assert f"\n{area}\n" in text
    assert list(tmp_path.iterdir()) == []


def test_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cli.main(["doctor", "--folder", str(tmp_path), "--json"])
    findings = {f["name"]: f for f in json.loads(capsys.readouterr().out)["findings"]}
    assert findings["torch"]["detail"] == torch.__version__.split("+")[0]
    assert {findings[name]["status"] for name in ("native", "openslide", "tiffslide")} == {"ok"}
    assert findings["disk"]["detail"].endswith("GB are free")


def test_every_reader_reads() -> None:
    readers = doctor_software.readers()
    assert [(f.name, f.status) for f in readers] == [
        ("native", "ok"),
        ("openslide", "ok"),
        ("tiffslide", "ok"),
    ]


def test_a_reader_that_fails_or_lies(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from wsi_ncmi.slides import reader

    real = reader.open_slide

    def only_native(path: Path, reader: str = "auto") -> Any:
        if reader == "openslide":
            raise OSError("cannot load libopenslide")
        return real(path, reader="native")

    monkeypatch.setattr(reader, "open_slide", only_native)
    monkeypatch.setattr(
        reader.Slide, "read_region", lambda self, *a: 255 * torch.ones(256, 256, 3).numpy()
    )
    findings = doctor_software.readers()
    assert [f.status for f in findings] == ["missing"] * 3
    assert all(f.needed for f in findings)
    assert found(findings, "openslide").detail.endswith("OSError: cannot load libopenslide")
    assert found(findings, "native").detail.endswith("wrong pixels")


def test_codecs_that_fail_or_lie(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def absent(*arguments: Any) -> None:
        raise imagecodecs.DelayedImportError("jpeg2k")

    monkeypatch.setattr(imagecodecs, "jpeg2k_decode", absent)
    findings = doctor_software.codecs()
    assert (found(findings, "jpeg2k").status, found(findings, "jpeg2k").needed) == (
        "missing",
        False,
    )
    assert run(tmp_path, None, as_json=True) == 0
    real = imagecodecs.jpeg8_decode
    monkeypatch.setattr(imagecodecs, "jpeg8_decode", lambda data: 255 - real(data))
    assert found(doctor_software.codecs(), "jpeg8").detail.endswith("gives back other pixels")
    assert run(tmp_path, None, as_json=True) == 1


def test_a_missing_package(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    versions = {"h5py": "not installed", "openslide-bin": "not installed"}
    monkeypatch.setattr(doctor_software, "package_version", lambda name: versions.get(name, "1"))
    findings = doctor_software.packages()
    assert (found(findings, "h5py").status, found(findings, "openslide-bin").status) == (
        "missing",
        "warn",
    )
    assert found(findings, "h5py").remedy == "pip install h5py"
    assert run(tmp_path, None, as_json=True) == 1


def test_extras_stop_nobody(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(doctor_software.importlib.util, "find_spec", lambda name: None)
    findings = doctor_software.extras()
    assert {f.status for f in findings if f.name != "sbatch"} == {"missing"}
    assert "gs://" in found(findings, "gcsfs").detail
    assert not any(f.needed and f.status != "ok" for f in findings)


def test_a_check_that_breaks_hides_no_other(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken() -> list[Finding]:
        raise RuntimeError("unforeseen")

    monkeypatch.setattr(doctor_software, "codecs", broken)
    assert run(tmp_path, None, as_json=False) == 1
    text = capsys.readouterr().out
    assert "the check failed: RuntimeError: unforeseen" in text
    assert "GB are free" in text


# --- the machine ---------------------------------------------------------------------------------


def test_no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(doctor_machine, "has_gpu", lambda: False)
    (finding,) = doctor_machine.gpu()
    assert (finding.status, finding.needed) == ("warn", False)


def test_a_driver_without_a_gpu_in_pytorch(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    version = tmp_path / "version"
    version.write_text("NVRM version: NVIDIA UNIX x86_64 Kernel Module  550.54.14  Thu Feb 22\n")
    monkeypatch.setattr(doctor_machine, "DRIVER", version)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(doctor_machine, "has_gpu", lambda: True)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr(torch.version, "cuda", None)
    (finding,) = doctor_machine.gpu()
    assert finding.status == "missing"
    assert "driver 550.54.14), but PyTorch (made for the processor alone)" in finding.detail
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert "CUDA_VISIBLE_DEVICES is ''" in doctor_machine.gpu()[0].detail


def test_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    class Facts:
        name = "Some GPU"
        total_memory = 80e9

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda index: Facts())
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda: True)
    first, second = doctor_machine.gpu()
    assert (first.name, second.name, first.status) == ("gpu 0", "gpu 1", "ok")
    assert first.detail.startswith("Some GPU, 80 GB, bf16, driver")


def test_too_many_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor_machine, "cpu_budget", lambda: 3)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    assert doctor_machine.processor()[0].detail.startswith("3 may be used")
    assert doctor_machine.processor()[0].status == "ok"
    monkeypatch.setenv("OMP_NUM_THREADS", "64")
    (finding,) = doctor_machine.processor()
    assert (finding.status, finding.remedy) == ("warn", "unset OMP_NUM_THREADS, or set it to 3")


def test_a_container_with_little_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    limits = [MemoryLimit("the control group", 3 * 10**9, 2 * 10**9)]
    monkeypatch.setattr(this_machine, "memory_limits", lambda: limits)
    monkeypatch.setattr(doctor_machine, "memory_limits", lambda: limits)
    (finding,) = doctor_machine.memory()
    assert finding.status == "warn"
    assert finding.detail.endswith("GB are free, 2.0 of 3.0 GB by the control group")
    limits.clear()
    assert "control group" not in doctor_machine.memory()[0].detail


@pytest.mark.parametrize(
    ("version", "status"), [("4.0.0", "warn"), ("3.4.1", "warn"), ("4.0.1", "ok"), ("4.1", "ok")]
)
def test_an_openslide_with_holes(
    monkeypatch: pytest.MonkeyPatch, version: str, status: str
) -> None:
    monkeypatch.setattr(openslide, "__library_version__", version)
    (finding,) = doctor_software.openslide_release()
    assert finding.status == status
    holes = ", expected 4.0.1 or newer, which mends CVE-2026-48977, CVE-2026-54604"
    assert finding.detail == f"library {version}{holes if status == 'warn' else ''}"
    assert finding.remedy.startswith("pip install --upgrade 'openslide-bin>=4.0.1'")


def test_the_openslide_that_is_installed_and_asked_for(root: Path) -> None:
    assert doctor_software.openslide_release()[0].status == "ok"
    least = ".".join(map(str, doctor_software.SAFE_OPENSLIDE))
    assert f'"openslide-bin>={least}"' in (root / "pyproject.toml").read_text()
    assert f"openslide >={least}" in (root / "environment.yml").read_text()
    assert f"openslide-bin=={least}." in (root / "constraints.txt").read_text()


def test_disks(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert [f.status for f in doctor_machine.disk(tmp_path)[1:]] == ["ok", "ok"]
    (gone,) = doctor_machine.disk(tmp_path / "gone")
    assert (gone.status, gone.needed) == ("missing", True)
    assert run(tmp_path / "gone", None, as_json=True) == 1

    def full(*arguments: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(doctor_machine, "atomic_path", full)
    monkeypatch.setattr(doctor_machine.fcntl, "flock", full)
    _, write, lock = doctor_machine.disk(tmp_path)
    assert (write.status, lock.status) == ("missing", "missing")
    assert "No space left on device" in write.detail
    assert "HDF5_USE_FILE_LOCKING" in lock.remedy
    assert list(tmp_path.iterdir()) == []


# --- weights -------------------------------------------------------------------------------------


def test_a_token_is_never_shown(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(huggingface_hub, "get_token", lambda: SECRET)
    for as_json in (True, False):
        assert run(tmp_path, None, as_json=as_json) == 0
        text = capsys.readouterr().out
        assert SECRET not in text
        assert "a login is there" in text


def test_offline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    (hub,) = doctor_software.weights(None)
    assert "HF_HUB_OFFLINE is set" in hub.detail


def weights(**options: Any) -> Finding:
    return doctor_software.weights(Extraction(**options))[1]


def test_weights_of_a_configuration(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    local = tmp_path / "w.safetensors"
    missing = weights(encoder="resnet50", weights=str(local))
    assert (missing.status, missing.needed) == ("missing", True)
    local.write_bytes(b"x" * 2_000_000)
    assert weights(encoder="resnet50", weights=str(local)).detail == f"{local}, 2.0 MB"
    assert weights(encoder="random_resnet").status == "ok"
    cache: dict[tuple[str, str], str] = {}
    monkeypatch.setattr(
        huggingface_hub, "try_to_load_from_cache", lambda repo, file: cache.get((repo, file))
    )
    free = weights(encoder="phikon_v2")
    assert (free.status, free.needed) == ("warn", False)
    assert free.detail == "of owkin/phikon-v2: not in the hub's cache"
    uni = weights(encoder="uni")
    assert (uni.status, uni.needed) == ("missing", True)
    cache[("MahmoodLab/UNI", "pytorch_model.bin")] = "/cache/pytorch_model.bin"
    assert weights(encoder="uni").detail == "in the hub's cache: pytorch_model.bin"
    assert "timm/resnet50" in weights(encoder="resnet50").detail
    assert "someone/some" in weights(encoder="hf-hub:someone/some").detail


def test_gated_weights_need_a_login_that_has_been_granted_access(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(huggingface_hub, "try_to_load_from_cache", lambda *_: None)
    both = Extraction(encoder="random_resnet", others={"u": {"encoder": "uni"}})

    def found() -> Finding:
        _, first, other = doctor_software.weights(both)
        assert first.status == "ok"
        return other

    alone = found()
    assert (alone.status, alone.needed) == ("missing", True)
    assert "UNI is gated, and there is no login: ask for access on" in alone.detail
    assert alone.remedy == (
        "or give the file as extraction.others.u.weights, or leave the encoder out by "
        "extraction.others.u: null"
    )
    monkeypatch.setattr(huggingface_hub, "get_token", lambda: SECRET)
    answers: list[Exception | None] = [_refusal(), OSError("no network"), None]

    def auth_check(repository: str) -> None:
        assert repository == "MahmoodLab/UNI"
        answer = answers.pop(0)
        if answer is not None:
            raise answer

    monkeypatch.setattr(huggingface_hub, "auth_check", auth_check)
    refused = found()
    assert (refused.status, refused.needed) == ("missing", True)
    assert "the hub refuses access (GatedRepoError)" in refused.detail
    assert [found().status, found().status] == ["warn", "warn"]  # nobody knows; it is granted


def _refusal() -> Exception:
    return GatedRepoError("no", response=MagicMock())


def test_the_command_looks_at_a_configuration(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "my.yaml"
    path.write_text("extraction: {encoder: resnet50, weights: nowhere.pth}\n")
    with pytest.raises(SystemExit) as stopped:
        cli.main(["doctor", "--folder", str(tmp_path), "--config", str(path)])
    assert stopped.value.code == 1
    assert "nowhere.pth: no such file" in capsys.readouterr().out
    assert doctor.Finding("a", "b", "ok", "c").needed is False


def test_the_disk_is_that_of_the_results(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "there").mkdir()
    path = tmp_path / "my.yaml"
    path.write_text(f"results: {tmp_path}/there/not/yet\n")
    for arguments, folder in (([], tmp_path / "there"), (["--folder", str(tmp_path)], tmp_path)):
        cli.main(["doctor", "--config", str(path), *arguments, "--json"])
        findings = {f["name"]: f for f in json.loads(capsys.readouterr().out)["findings"]}
        assert findings["disk"]["detail"].startswith(f"{folder}: ")
    assert list((tmp_path / "there").iterdir()) == []


def test_a_misspelt_encoder_is_missing() -> None:
    found = doctor_software.weights(Extraction(encoder="resnet500"))[-1]
    assert (found.status, found.detail) == ("missing", "no encoder has this name")
    assert found.remedy.startswith("correct extraction.encoder: did you mean resnet50")
    assert doctor_software.weights(Extraction(encoder="random_resnet"))[-1].status == "ok"
