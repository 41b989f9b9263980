"""What a group's checkpoint holds, and a group that goes on from it.

Models, objectives, optimisers, what is kept, sums and histories, and where the epoch is. Rows are
named by their runs' digests: a part of a group goes on from the checkpoint of the whole.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from wsi_ncmi.training.engine.group import Group
from wsi_ncmi.training.engine.members import Member
from wsi_ncmi.training.engine.selection import KeptStack


def state(group: Group, kept: KeptStack) -> dict[str, Any]:
    """All tensors of a group, with the runs that its rows are of."""
    found = {
        "rows": [run_of(member) for member in group.members],
        "aggregators": group.aggregators.tensors,
        "optimiser": group.optimiser.state,
        "largest_norm": {"": group.largest_norm},
        "kept": kept.tensors,
        "families": [],
    }
    for number, family in enumerate(group.families):
        own = {
            "rows": [run_of(group.members[place]) for place in family.places],
            "stack": family.stack.tensors,
            "optimiser": family.optimiser.state,
            "centroids": {"done": family.centroids.schedule.done},
            "kept": kept.states[number + 1] if kept.states else {},
        }
        found["families"].append(own)  # type: ignore[attr-defined]
    found["kept_aggregators"] = kept.states[0] if kept.states else {}
    return found


def restore(group: Group, kept: KeptStack, saved: Mapping[str, Any]) -> None:
    """Give a group, all of whose runs are in a checkpoint, the state that they have there."""
    rows = [saved["rows"].index(run_of(member)) for member in group.members]
    _copy(group.aggregators.tensors, saved["aggregators"], rows)
    _copy(group.optimiser.state, saved["optimiser"], rows)
    _copy({"": group.largest_norm}, saved["largest_norm"], rows)
    _copy(kept.tensors, saved["kept"], rows)
    states = [_rows(saved["kept_aggregators"], rows, group.device)]
    by_run = {run: family for family in saved["families"] for run in family["rows"]}
    for family in group.families:
        runs = [run_of(group.members[place]) for place in family.places]
        own = by_run[runs[0]]
        rows = [own["rows"].index(run) for run in runs]
        _copy(family.stack.tensors, own["stack"], rows)
        _copy(family.optimiser.state, own["optimiser"], rows)
        _copy({"done": family.centroids.schedule.done}, own["centroids"], rows)
        states.append(_rows(own["kept"], rows, group.device))
    kept.states = states if states[0] else None


def run_of(member: Member) -> str:
    """What names a run in a checkpoint."""
    return member.setup.run.model_digest


def _copy(tensors: Mapping[str, Tensor], saved: Mapping[str, Tensor], rows: list[int]) -> None:
    for name, tensor in tensors.items():
        tensor.copy_(saved[name][rows])


def _rows(saved: Mapping[str, Tensor], rows: list[int], device: torch.device) -> dict[str, Tensor]:
    return {name: tensor[rows].to(device) for name, tensor in saved.items()}
