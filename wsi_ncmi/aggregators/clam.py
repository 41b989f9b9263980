"""What CLAM-SB and CLAM-MB share (Lu et al. 2021, Nature Biomedical Engineering 5, 555–570).

    h_n = relu(W₁ x_n);  a_k = softmax_n w_kᵀ(tanh(V h_n) ⊙ σ(U h_n));  z_k = Σ_n a_kn h_n

One attention branch (SB) or one for each class (MB). In training, an instance classifier for each
class c learns from the k most attended instances of a bag of class c, as evidence of c (1), and
from its k least attended ones, as none (0). With `subtyping` (no two classes occur in one slide)
the k instances that c's branch attends to most in a bag of another class are false evidence (0),
and the loss is averaged over the C classifiers. The total is 0.7 · bag + 0.3 · instances.

The published instance loss is the smooth top-1 SVM, the bag's is cross-entropy. Here the arm's
objective takes the place of both, on h_n: cross-entropy's linear head is the published instance
classifier. Each of a step's instances of a classifier counts alike; with one bag a step this is
the published loss. A bag of fewer than 2k instances is halved: none is both.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn

from wsi_ncmi.aggregators.bags import BagBatch
from wsi_ncmi.aggregators.dropout import Dropout
from wsi_ncmi.aggregators.gated import GatedAttention
from wsi_ncmi.aggregators.interface import (
    Aggregator,
    Auxiliary,
    AuxiliaryLoss,
    BagOutput,
    at_least_float32,
    pooling_precision,
)
from wsi_ncmi.aggregators.layers import InstanceLayers
from wsi_ncmi.aggregators.segments import attention_pool, segment_softmax
from wsi_ncmi.bounds import bounded, check_options

# The paper's Methods, "Training details". Training also goes on for 50 epochs at least.
RECIPE: dict[str, Any] = {
    "optimiser": "adam",
    "betas": (0.9, 0.999),
    "schedule": "constant",
    "learning_rate": 1e-4,
    "weight_decay": 1e-5,
    "epochs": 200,
    "batch_size": 1,
    "warmup_fraction": 0.0,
    "clip_norm": None,
    "sampling": "balanced",
    "selection": "early_stopping",
    "patience": 20,
}


@dataclass(frozen=True)
class Options:
    """Options of CLAM.

    Attributes:
        hidden_dim: width of an instance's embedding and of a pooled one.
        attention_dim: width of the gated attention.
        dropout: dropout on instance embeddings and in the attention, in training only.
        instances: k, number of most and of least attended instances that the instance loss takes
            of a bag; of a smaller bag at most half of its instances each.
        instance_weight: weight of the instance loss, that of the bag's loss is 1 less it; 0: there
            is no instance loss.
        subtyping: whether the classes exclude each other within a slide: then bags of other classes
            train a class's instance classifier, too.
    """

    hidden_dim: int = bounded(512, least=1)
    attention_dim: int = bounded(256, least=1)
    dropout: float = bounded(0.25, least=0, below=1)
    instances: int = bounded(8, least=1)
    instance_weight: float = bounded(0.3, least=0, below=1)
    subtyping: bool = False

    def __post_init__(self) -> None:
        check_options(self)


class CLAM(Aggregator):
    """K attention branches; the embedding is the K pooled ones, one after the other.

    Args:
        branches: K: 1, or one for each class.
    """

    has_attention = True

    def __init__(self, feature_dim: int, classes: int, options: Options, branches: int) -> None:
        super().__init__()
        self.options, self.classes = options, classes
        self.embedding_dim = branches * options.hidden_dim
        self.instance = InstanceLayers(
            nn.Linear(feature_dim, options.hidden_dim), nn.ReLU(), Dropout(options.dropout)
        )
        self.attention = GatedAttention(
            options.hidden_dim, options.attention_dim, branches, options.dropout
        )

    @property
    def instance_dim(self) -> int:
        return self.options.hidden_dim

    @property
    def auxiliaries(self) -> Mapping[str, Auxiliary]:
        if self.options.instance_weight == 0:
            return {}
        each = Auxiliary(self.options.hidden_dim, 2)
        return {_name(number): each for number in range(self.classes)}

    def forward(self, bags: BagBatch, targets: Tensor | None = None) -> BagOutput:
        hidden = self.instance(bags.features)  # [T, d]
        scores = self.attention(hidden)
        with pooling_precision(hidden):
            hidden = at_least_float32(hidden)
            attention = segment_softmax(at_least_float32(scores), bags)  # [T, K]
            embedding = attention_pool(attention, hidden, bags).flatten(1)
        auxiliary = {}
        if targets is not None and self.auxiliaries:
            auxiliary = self._instance_losses(hidden, attention, bags, targets)
        weight = 1 - self.options.instance_weight
        return BagOutput(embedding, attention, hidden, auxiliary, bag_weight=weight)

    def _instance_losses(
        self, hidden: Tensor, attention: Tensor, bags: BagBatch, targets: Tensor
    ) -> dict[str, AuxiliaryLoss]:
        """Of a class without an instance in the step, one of no instance and no weight."""
        labels = targets.tolist()
        places, evidence = self._evidence(bags.sizes, labels, attention.shape[1])
        ranked = most_and_least(attention.detach(), bags, self.options.instances)
        rows = ranked.flatten()[torch.tensor([*chain.from_iterable(places)], device=hidden.device)]
        chosen = hidden[rows].split([len(one) for one in places])
        found = {}
        for number, (embedding, own) in enumerate(zip(chosen, evidence, strict=True)):
            target = torch.tensor(own, dtype=torch.int64, device=targets.device)
            weight = self._weight(labels.count(number) / len(labels))
            found[_name(number)] = AuxiliaryLoss(embedding, target, weight)
        return found

    def _evidence(
        self, sizes: Sequence[int], labels: Sequence[int], branches: int
    ) -> tuple[list[list[int]], list[list[int]]]:
        """For each class, places among the ranked [B, k, 2, K], and what these are for it."""
        most, _ = of_each(max(sizes), self.options.instances)

        def place(bag: int, rank: int, least: int, branch: int) -> int:
            return ((bag * most + rank) * 2 + least) * branches + branch

        places: list[list[int]] = [[] for _ in range(self.classes)]
        evidence: list[list[int]] = [[] for _ in range(self.classes)]
        for number in range(self.classes):
            branch = number if branches > 1 else 0
            for bag, (size, label) in enumerate(zip(sizes, labels, strict=True)):
                high, low = map(range, of_each(size, most))
                if label == number:
                    places[number] += [place(bag, rank, 0, branch) for rank in high]
                    places[number] += [place(bag, rank, 1, branch) for rank in low]
                    evidence[number] += [1] * len(high) + [0] * len(low)
                elif self.options.subtyping:
                    places[number] += [place(bag, rank, 0, branch) for rank in high]
                    evidence[number] += [0] * len(high)
        return places, evidence

    def _weight(self, share: float) -> float:
        """Of one classifier's loss, from the share of the step's bags that are of its class."""
        return self.options.instance_weight * (
            1 / self.classes if self.options.subtyping else share
        )


def of_each(size: int, most: int) -> tuple[int, int]:
    """How many most and least attended instances a bag gives: never the same ones.

    k ≤ N / 2, rounded up, and k' ≤ N / 2, rounded down.
    """
    return min(most, (size + 1) // 2), min(most, size // 2)


def most_and_least(attention: Tensor, bags: BagBatch, most: int) -> Tensor:
    """The rows of each bag's most and least attended instances, from the first on: [B, k, 2, K].

    k is that of the largest bag. Of a smaller one's rows, those beyond `of_each` mean nothing.
    """
    most, _ = of_each(max(bags.sizes), most)
    both = torch.stack([attention, -attention], 1)  # [T, 2, K]
    rows, filled = padded_rows(bags)
    ranked = both[rows].masked_fill(~filled[:, :, None, None], -torch.inf)
    starts = bags.offsets[:-1].to(rows.device)
    return ranked.topk(most, 1).indices + starts[:, None, None, None]


def padded_rows(bags: BagBatch) -> tuple[Tensor, Tensor]:
    """Each bag's rows [B, N], N of the largest, and where there is one; elsewhere its last one."""
    sizes = torch.tensor(bags.sizes)[:, None]
    within = torch.arange(max(bags.sizes))
    rows = bags.offsets[:-1, None].cpu() + torch.minimum(within, sizes - 1)
    return rows.to(bags.features.device), (within < sizes).to(bags.features.device)


def _name(number: int) -> str:
    return f"instances_of_class_{number}"
