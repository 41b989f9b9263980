"""Command `doctor`: what this machine has, what is missing, and what to do about it."""

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path

from wsi_ncmi.config import Extraction
from wsi_ncmi.tools.as_json import print_json
from wsi_ncmi.tools.doctor.findings import Finding


def run(folder: Path, extraction: Extraction | None, *, as_json: bool) -> int:
    """Look at everything and print it.

    Args:
        folder: where results are to lie; a small file is written, locked and removed there.
        extraction: of a configuration, whose weights are looked for.

    Returns:
        1 if something needed is missing or does not work; else 0.
    """
    findings = examine(folder, extraction)
    if as_json:
        print_json("doctor", {"findings": [dataclasses.asdict(one) for one in findings]})
    else:
        _print(findings)
    return 1 if any(f.needed and f.status == "missing" for f in findings) else 0


def examine(folder: Path, extraction: Extraction | None) -> list[Finding]:
    """All findings, by area; a check that fails in an unforeseen way is a finding itself."""
    from wsi_ncmi.tools.doctor import machine, software

    checks: list[Callable[[], Sequence[Finding]]] = [
        software.packages,
        software.readers,
        software.openslide_release,
        software.codecs,
        software.extras,
        machine.gpu,
        machine.processor,
        machine.memory,
        lambda: machine.disk(folder),
        lambda: software.weights(extraction),
    ]
    found: list[Finding] = []
    for check in checks:
        try:
            found += check()
        except Exception as error:  # one broken library must not hide all others
            detail = f"the check failed: {type(error).__name__}: {error}"
            name = getattr(check, "__name__", "check")
            found.append(Finding("doctor", name, "missing", detail, needed=True))
    return found


def _print(findings: Sequence[Finding]) -> None:
    width = max(len(finding.name) for finding in findings)
    area = ""
    for finding in findings:
        if finding.area != area:
            area = finding.area
            print(f"\n{area}")
        print(f"  {finding.status:<8}{finding.name:<{width}}  {finding.detail}")
        if finding.remedy and finding.status != "ok":
            print(f"  {'':<8}{'':<{width}}  → {finding.remedy}")
    bad = [f.name for f in findings if f.needed and f.status == "missing"]
    extras = [f.name for f in findings if not f.needed and f.status == "missing"]
    print(f"\nneeded and missing or broken: {', '.join(bad) or 'nothing'}")
    print(f"extras that are missing: {', '.join(extras) or 'none'}")
