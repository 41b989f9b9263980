"""The floors of the house, by reading every import: they go down only."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from graphlib import TopologicalSorter
from importlib.metadata import PackageNotFoundError, packages_distributions, requires
from pathlib import Path

import pytest
from packaging.requirements import Requirement

PACKAGE = Path(__file__).resolve().parents[2] / "wsi_ncmi"

# Room -> floor. A room imports from lower floors only, so that no two rooms can form a circle.
FLOORS = {
    "errors": 0,
    "address": 0,
    "bounds": 0,
    "provenance": 0,
    "machine": 0,
    "processes": 0,
    "logs": 0,
    "aggregators": 1,
    "losses": 1,
    "registry": 1,
    "config": 1,
    "files": 1,
    "evaluation": 2,
    "cohorts": 2,
    "slides": 2,
    "encoders": 2,
    "images": 2,
    "attacks": 3,
    "predictions": 3,
    "tiling": 3,
    "bags": 3,
    "fetch": 3,
    "extraction": 4,
    "training": 4,
    "report": 4,
    "demo": 4,
    "experiments": 5,
    "planning": 6,
    "stages": 6,
    "tools": 7,
    "cli": 8,
}
# What the Snakefile imports in every job, and all that this may reach: no torch, pandas or numpy.
PLANNING = (
    "wsi_ncmi.planning.checked",
    "wsi_ncmi.planning.digests",
    "wsi_ncmi.planning.settings",
    "wsi_ncmi.demo.cohort",
)
LIGHT = (
    "wsi_ncmi.errors",
    "wsi_ncmi.bounds",
    "wsi_ncmi.registry",
    "wsi_ncmi.provenance",
    "wsi_ncmi.machine",
    "wsi_ncmi.config",
    "wsi_ncmi.cohorts",
    "wsi_ncmi.address",
    "wsi_ncmi.files.atomic",
    "wsi_ncmi.files.product",
    "wsi_ncmi.files.patience",
    "wsi_ncmi.files.reach",
    "wsi_ncmi.files.retries",
    "wsi_ncmi.files.table",
    "wsi_ncmi.files.tree",
    "wsi_ncmi.files.user_table",
    "wsi_ncmi.slides.dicom_header",
    "wsi_ncmi.slides.parts",
    "wsi_ncmi.tiling.asked",
    "wsi_ncmi.tiling.seen",
)
HEAVY = ("torch", "pandas", "numpy")
# Losses that need more than torch, which brings it where there is a GPU.
KERNELS = {
    "wsi_ncmi.losses.functional.few_kernels": ("triton",),
    "wsi_ncmi.losses.functional.few_triton": ("triton",),
}


@dataclass(frozen=True)
class Import:
    """One import: of what, in which line, inside which function ("" at the top)."""

    target: str
    line: int
    function: str


def modules() -> dict[str, Path]:
    """Every module of the package by its dotted name."""
    found = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


MODULES = modules()


def targets(node: ast.AST, where: Path) -> list[str]:
    """What an import names; `from package import module` names the module."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if not isinstance(node, ast.ImportFrom):
        return []
    assert node.level == 0, f"{where}:{node.lineno}: imports are absolute"
    base = node.module or ""
    full = [f"{base}.{alias.name}" for alias in node.names]
    return [name if name in MODULES else base for name in full]


def imports(path: Path) -> Iterator[Import]:
    """All imports of a file, lazy ones too."""

    def walk(node: ast.AST, function: str) -> Iterator[Import]:
        for child in ast.iter_child_nodes(node):
            for target in targets(child, path):
                yield Import(target, child.lineno, function)  # type: ignore[attr-defined]
            inner = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef)
            yield from walk(child, child.name if inner else function)  # type: ignore[attr-defined]

    yield from walk(ast.parse(path.read_text()), "")


IMPORTS = {name: sorted(set(imports(path)), key=lambda i: i.line) for name, path in MODULES.items()}


def room(module: str) -> str:
    """The folder (or file) directly below the package that a module belongs to."""
    return module.split(".")[1]


def ours(module: str) -> list[Import]:
    return [i for i in IMPORTS[module] if i.target.split(".")[0] == "wsi_ncmi"]


def foreign(module: str) -> list[Import]:
    """Imports of neither the package nor the standard library."""
    return [
        i
        for i in IMPORTS[module]
        if i.target.split(".")[0] not in {"wsi_ncmi", *sys.stdlib_module_names}
    ]


def under(*packages: str) -> list[str]:
    return [m for m in MODULES if any(m == p or m.startswith(f"{p}.") for p in packages)]


def test_the_reader_of_imports_sees_them() -> None:
    assert len(MODULES) > 50
    assert "wsi_ncmi.losses.functional" in {i.target for i in IMPORTS["wsi_ncmi.losses.ncmi"]}
    lazy = [i for i in IMPORTS["wsi_ncmi.registry"] if i.target == "pydantic"]
    assert [i.function for i in lazy] == ["options_of"]


def test_every_room_has_a_floor() -> None:
    rooms = {room(module) for module in MODULES if module != "wsi_ncmi"}
    assert rooms == set(FLOORS), "docs/design.md and FLOORS list every room"


@pytest.mark.parametrize("name", FLOORS)
def test_imports_go_down(name: str) -> None:
    own = FLOORS[name]
    rising = [
        f"{module} line {i.line}: {i.target} (floor {FLOORS[room(i.target)]})"
        for module in under(f"wsi_ncmi.{name}")
        for i in ours(module)
        if room(i.target) != name and FLOORS[room(i.target)] >= own
    ]
    assert rising == [], f"{name} is on floor {own}"


def test_no_modules_import_each_other() -> None:
    """Within a room too, and lazily: a circle says that something is in the wrong file."""
    graph = {m: {i.target for i in ours(m) if i.target != "wsi_ncmi"} for m in MODULES}
    assert list(TopologicalSorter(graph).static_order())


@pytest.mark.parametrize("module", MODULES)
def test_imported_modules_exist(module: str) -> None:
    """A lazy import of a module that is not there would fail only in the user's hands."""
    missing = [f"line {i.line}: {i.target}" for i in ours(module) if i.target not in MODULES]
    assert missing == []


def test_light_modules_import_nothing_heavy() -> None:
    heavy = [
        f"{m} line {i.line}: {i.target}"
        for m in under(*LIGHT)
        for i in foreign(m)
        if i.target.split(".")[0] in HEAVY
    ]
    assert heavy == []


def closure(module: str) -> set[str]:
    """A module, what it imports of the package, and so on."""
    found, waiting = set(), [module]
    while waiting:
        name = waiting.pop()
        if name not in found:
            found.add(name)
            waiting += [i.target for i in ours(name)]
    return found


# Of the encoders only what is published of them: `test_planning_loads_nothing_heavy` loads it.
PARTS = ("", ".facts", ".interface", ".published", ".scale")
FACTS = {f"wsi_ncmi.encoders{name}" for name in PARTS}


@pytest.mark.parametrize("module", PLANNING)
def test_planning_is_light(module: str) -> None:
    """The Snakefile imports it in every job: the demo's slides, encoders' facts, what is light."""
    reached = closure(module) - FACTS - {"wsi_ncmi.files", "wsi_ncmi.tiling"}
    upper = {m for m in reached if m.startswith(("wsi_ncmi.demo", "wsi_ncmi.planning"))}
    assert reached - upper - set(under(*LIGHT)) == set()
    assert [f"{m}: {i.target}" for m in upper for i in foreign(m)] == []


def test_losses_know_torch_alone() -> None:
    losses = under("wsi_ncmi.losses")
    known = {*losses, "wsi_ncmi.bounds"}  # which needs the standard library alone
    assert [f"{m}: {i.target}" for m in losses for i in ours(m) if i.target not in known] == []
    assert {i.target for i in foreign("wsi_ncmi.bounds")} == set()
    # A file that wraps a library imports it in its constructor (DESIGN.md).
    others = [
        f"{m} line {i.line}: {i.target}"
        for m in losses
        for i in foreign(m)
        if i.target.split(".")[0] not in ("torch", *KERNELS.get(m, ())) and i.function != "__init__"
    ]
    assert others == []


def test_kernels_load_on_a_gpu_alone() -> None:
    """Nothing but the function that tries them imports what needs Triton."""
    loading = {(m, i.function) for m in MODULES for i in ours(m) if i.target in KERNELS}
    few = "wsi_ncmi.losses.functional.few"
    assert loading == {(few, "_triton"), (f"{few}_triton", "")}


def test_slides_never_know_torch() -> None:
    reached = {m for name in under("wsi_ncmi.slides", "wsi_ncmi.tiling") for m in closure(name)}
    found = [f"{m}: {i.target}" for m in sorted(reached) for i in foreign(m)]
    assert [f for f in found if f.split(": ")[1].split(".")[0] in ("torch", "torchvision")] == []


def run_python(code: str, root: Path) -> str:
    """Standard output of a fresh interpreter."""
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_planning_loads_nothing_heavy(root: Path) -> None:
    """What the Snakefile imports, as it truly runs: transitive imports of libraries count too."""
    code = f"""
import sys
import {", ".join([*PLANNING, *under(*LIGHT)])}
from wsi_ncmi.encoders import check_scale, published_facts
assert published_facts("uni").mpp
print([name for name in {HEAVY!r} if name in sys.modules])
"""
    assert run_python(code, root).strip() == "[]"


def test_slides_load_without_torch(root: Path) -> None:
    code = f"""
import sys
import {", ".join(under("wsi_ncmi.slides", "wsi_ncmi.tiling"))}
print([name for name in ("torch", "torchvision") if name in sys.modules])
"""
    assert run_python(code, root).strip() == "[]"


def needed_by(distribution: str) -> set[str]:
    """Names of a distribution and of all that it requires here."""
    found, waiting = set(), [distribution]
    while waiting:
        name = waiting.pop().lower().replace("_", "-")
        if name in found:
            continue
        found.add(name)
        try:
            lines = [Requirement(line) for line in requires(name) or []]
        except PackageNotFoundError:
            continue  # an extra of another platform
        waiting += [r.name for r in lines if r.marker is None or r.marker.evaluate({"extra": ""})]
    return found


def test_losses_import_with_torch_alone(root: Path) -> None:
    """`from wsi_ncmi.losses import NCMI` in somebody else's environment, where torch is all."""
    allowed = needed_by("torch")
    tops = {
        top
        for top, owners in packages_distributions().items()
        if any(owner.lower().replace("_", "-") in allowed for owner in owners)
    }
    assert {"torch", "sympy"} <= tops
    assert not tops & {"numpy", "pandas", "pydantic", "h5py", "sklearn"}
    code = f"""
import sys
allowed = {sorted(tops | {"wsi_ncmi"})!r}
class Guard:
    def find_spec(self, name, path=None, target=None):
        top = name.partition(".")[0]
        if top not in allowed and top not in sys.stdlib_module_names:
            raise ModuleNotFoundError(f"{{name}} is not part of torch", name=name)
for name in [n for n in sys.modules if n.partition(".")[0] in ("numpy", "wsi_ncmi")]:
    del sys.modules[name]
sys.meta_path.insert(0, Guard())
import torch
from wsi_ncmi import losses, registry
parts = [getattr(losses, name) for name in losses.__all__]
parts = [part for part in parts if isinstance(part, type) and issubclass(part, losses.Objective)]
made = [part for part in parts if part not in (losses.Objective, losses.SupCon)]
for part in made:
    objective = part(8, [3, 3])
    z = torch.randn(4, 8, requires_grad=True)
    objective(z, torch.tensor([0, 1, 0, 1])).total.backward()
assert len(made) + 1 == len(registry.names("objective")), registry.names("objective")
try:
    losses.SupCon(8, [3, 3])
except ImportError as error:
    assert "wsi-ncmi[metric]" in str(error), error
else:
    raise AssertionError("SupCon was built without its library")
print(sorted(n for n in ("numpy", "pandas", "pydantic") if n in sys.modules))
"""
    assert run_python(code, root).strip() == "[]"
