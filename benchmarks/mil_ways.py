"""Every way of training a group of MIL models by its name, the engine's among them."""

import importlib.util
from collections.abc import Callable, Sequence

from mil_bags import Work
from mil_processes import EngineProcesses, Processes
from mil_rivals import Mapped, Padded, Plain, Way
from torch import Tensor

from wsi_ncmi.training.engine.evaluation import fit_phase
from wsi_ncmi.training.engine.fit import parts_of
from wsi_ncmi.training.engine.group import Group, Sums
from wsi_ncmi.training.engine.members import Member

ENGINE = "engine"
ONE_PROCESS = "engine_one_process"


class Engine(Way):
    """The steps of `wsi_ncmi.training.engine`, in the groups that `fit` makes of the models.

    In this process, with all threads.

    Args:
        numbers: of the models; None: the first ones.
    """

    def __init__(self, work: Work, most: int, numbers: Sequence[int] | None = None) -> None:
        super().__init__(work, most)
        chosen = range(self.trained) if numbers is None else numbers
        members = [Member(work.setup(number)) for number in chosen]
        for member in members:
            member.network.precision = work.precision
        self.groups = [Group(part) for part in parts_of(members)]
        for group in self.groups:
            fit_phase(group, "start")

    def train(self) -> None:
        for group in self.groups:
            group.train_epoch(Sums(len(group), group.device), self.epoch, 0, lambda step: None)

    def states(self) -> list[dict[str, Tensor]]:
        found = {
            id(member): group.aggregators.state(place)
            for group in self.groups
            for place, member in enumerate(group.members)
        }
        ordered = [m for group in self.groups for m in group.members]
        ordered.sort(key=lambda m: (m.setup.run.seed, m.setup.settings.learning_rate))
        return [{f"aggregator.{k}": v for k, v in found[id(m)].items()} for m in ordered]


def torchmil(work: Work, most: int) -> Way:
    from mil_torchmil import TorchMIL

    return TorchMIL(work, most)


WAYS: dict[str, Callable[[Work, int], Way]] = {
    ENGINE: EngineProcesses,
    ONE_PROCESS: Engine,
    "plain": Plain,
    "padded": Padded,
    "processes": Processes,
    "torchmil": torchmil,
    "vmap": Mapped,
}


def impossible(name: str, work: Work) -> str:
    """Why a way cannot do some work; "" where it can."""
    if name in ("padded", "torchmil") and work.aggregator != "abmil":
        return "written for gated ABMIL alone"
    if name == "torchmil" and importlib.util.find_spec("torchmil") is None:
        return "torchmil is not installed (pip install torchmil==1.0.2)"
    if name in ("padded", "torchmil", "vmap") and work.objective != "cross_entropy":
        return "written for cross-entropy alone"
    return ""
