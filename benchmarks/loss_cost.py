"""What NCMI costs beside cross-entropy, and beside the B × C × m tensor of its public code.

    python benchmarks/loss_cost.py --device cpu --threads 1
    python benchmarks/loss_cost.py --device cuda

Forward and backward pass from the embedding on, with gradients of embedding and parameters. Peak
memory is what a pass holds at once beyond inputs, parameters, buffers and their gradients. Then
the share of a whole training step: ResNet-18 on 32² images (ResNet-50 on 224² on a GPU), and gated
ABMIL with one bag of 2,000 instances; and the loss of a stack of models. Prints the ratios, writes
results/loss_cost-<device>.json. `--few` measures what has few classes, and leaves the file's other
numbers as they are.
"""

import argparse
import copy
import json
import math
import statistics
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from measure import RESULTS, peak_bytes, record, seconds
from torch import Tensor, nn
from torch.func import functional_call, stack_module_state, vmap

from wsi_ncmi.aggregators import abmil
from wsi_ncmi.aggregators.bags import BagBatch
from wsi_ncmi.losses import NCMI, CrossEntropy, LossOutput, Objective
from wsi_ncmi.losses.functional.few import FEW_CLASSES
from wsi_ncmi.losses.ncmi import Options

SHAPES = [(128, 100, 512), (256, 1000, 2048), (1024, 1000, 2048), (1, 4, 512), (32, 4, 512)]
PAIRWISE_COPIES = 3  # arrays of B × C × m that the formulation below holds at once, at the least
PAIRWISE_LIMIT = {"cpu": 8e9, "cuda": 80e9}
TEMPERATURE = 0.2
Table = dict[str, list[dict[str, Any]]]
STACK_SHAPE = (16, 3, 128)  # B, C, m
STACKS = (1, 4, 12, 60)
# What `pairwise_ncmi` computes.
PUBLISHED: dict[str, Any] = {"temperature": TEMPERATURE, "separation_direction": "kl_q_p"}


def pairwise_ncmi(z: Tensor, xi: Tensor, target: Tensor) -> Tensor:
    """The public code's formulation, written from its formula: all pairs in one tensor."""
    p = torch.sigmoid(F.normalize(z, dim=1) / TEMPERATURE)
    p = p / p.sum(1, keepdim=True)
    q = torch.sigmoid(xi)
    q = q / q.sum(1, keepdim=True)
    a = (p * (p / q[target]).log()).sum(1)
    others = 1 - F.one_hot(target, len(xi)).to(z.dtype)
    b = ((q[None] * (q[None] / p[:, None]).log()).sum(2) * others).sum(1) / len(xi)
    return (a / b).mean()


def inputs(shape: tuple[int, int, int], device: torch.device) -> tuple[Tensor, Tensor]:
    batch, classes, dim = shape
    torch.manual_seed(0)
    z = torch.randn(batch, dim, device=device, requires_grad=True)
    return z, torch.arange(batch, device=device) % classes


def started(objective: Objective, device: torch.device) -> Objective:
    many = 4 * objective.classes
    torch.manual_seed(1)
    embeddings = torch.randn(many, objective.embedding_dim)
    objective.fit("start", embeddings, torch.arange(many) % objective.classes)
    return objective.to(device).train()


def passes(shape: tuple[int, int, int], device: torch.device) -> dict[str, Callable[[], None]]:
    """Forward and backward of every rival that fits."""
    _, classes, dim = shape
    z, target = inputs(shape, device)
    counts = [10] * classes
    head = nn.Linear(dim, classes).to(device)
    xi = torch.randn(classes, dim, device=device, requires_grad=True)

    def run(loss: Callable[[], Tensor], *parameters: Tensor) -> Callable[[], None]:
        def call() -> None:
            for tensor in (z, *parameters):
                tensor.grad = None
            loss().backward()

        return call

    def objective(**options: Any) -> NCMI:
        return started(NCMI(dim, counts, Options(**PUBLISHED, **options)), device)

    plain, compiled = objective(schedule="simultaneous"), objective(schedule="simultaneous")
    compiled.compile(fullgraph=True)
    rivals = {
        "cross-entropy with its head": run(
            lambda: F.cross_entropy(head(z), target), *head.parameters()
        ),
        "NCMI": run(lambda: plain(z, target).total, plain.xi),
        "NCMI, compiled": run(lambda: compiled(z, target).total, compiled.xi),
        "NCMI, alternating": alternating(objective(), z, target),
    }
    if pairwise_bytes(shape) <= PAIRWISE_LIMIT[device.type]:
        rivals["B × C × m"] = run(lambda: pairwise_ncmi(z, xi, target), xi)
    return rivals


def alternating(objective: NCMI, z: Tensor, target: Tensor) -> Callable[[], None]:
    """The default schedule's two evaluations: ξ with p fixed, then the embedding with q fixed."""

    def call() -> None:
        z.grad = objective.xi.grad = None
        own = objective.state_loss(z.detach(), target)
        assert own is not None
        own.backward()
        objective(z, target).total.backward()

    return call


def pairwise_bytes(shape: tuple[int, int, int]) -> int:
    batch, classes, dim = shape
    return PAIRWISE_COPIES * 4 * batch * classes * dim


def loss_table(device: torch.device, rounds: int, most: float) -> list[dict[str, Any]]:
    """Of the shapes with at most so many classes."""
    rows: list[dict[str, Any]] = []
    for shape in (shape for shape in SHAPES if shape[1] <= most):
        torch.compiler.reset()
        rivals = passes(shape, device)
        times = seconds(rivals, device, rounds=rounds, target=0.2)
        gradients = 4 * shape[2] * (shape[0] + shape[1])
        for name, call in rivals.items():
            memory = max(0, peak_bytes(call, device) - gradients)
            rows.append({"shape": shape, "loss": name, "bytes": memory, **times[name]})
        if "B × C × m" not in rivals:
            bytes_ = pairwise_bytes(shape)
            rows.append(
                {"shape": shape, "loss": "B × C × m", "does_not_fit": True, "bytes": bytes_}
            )
        show(rows[-len(rivals) - 1 :])
    return rows


def show(rows: list[dict[str, Any]]) -> None:
    reference = next(r for r in rows if r["loss"].startswith("cross-entropy"))
    for row in rows:
        if row["shape"] != reference["shape"]:
            continue
        if row.get("does_not_fit"):
            print(f"{row['shape']!s:18} {row['loss']:28} needs {row['bytes'] / 1e9:.1f} GB or more")
            continue
        ratio = row["median"] / reference["median"]
        print(
            f"{row['shape']!s:18} {row['loss']:28} {row['median'] * 1e6:12.0f} µs "
            f"{ratio:8.2f} x CE {row['bytes'] / 1e6:10.2f} MB",
            flush=True,
        )


class Step:
    """A whole training step of a network under an objective."""

    def __init__(self, network: nn.Module, objective: Objective, device: torch.device) -> None:
        self.network, self.objective, self.device = network, objective, device
        groups = objective.parameter_groups()
        own = [*network.parameters(), *groups["network"]]
        self.optimiser = torch.optim.SGD(own, 1e-3, momentum=0.9)
        learnt = groups["centroids"]
        self.centroids = torch.optim.SGD(learnt, 0.1) if learnt else None

    def __call__(self, *arguments: Tensor, target: Tensor) -> None:
        bf16 = torch.autocast(self.device.type, torch.bfloat16, enabled=self.device.type == "cuda")
        with bf16:
            embedding = self.network(*arguments)
        own = self.objective.state_loss(embedding.detach(), target)
        if own is not None and self.centroids is not None:
            self.centroids.zero_grad()
            own.backward()
            self.centroids.step()
        self.optimiser.zero_grad()
        self.objective(embedding, target).total.backward()
        self.optimiser.step()
        self.objective.end_step()


class Pooled(nn.Module):
    """Gated ABMIL as a network from bags to embeddings."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.aggregator = abmil.build(dim, 2, abmil.Options())
        self.embedding_dim = self.aggregator.embedding_dim

    def forward(self, features: Tensor) -> Tensor:
        embedding: Tensor = self.aggregator(BagBatch.of(features.unbind(0))).embedding
        return embedding


def image_network(name: str, side: int) -> tuple[nn.Module, int]:
    import timm

    stem = {"kernel_size": 3, "stride": 1, "padding": 1, "bias": False}
    network = timm.create_model(name, num_classes=0)
    if side <= 64:  # the usual stem for small images
        network.conv1, network.maxpool = nn.Conv2d(3, 64, **stem), nn.Identity()
    return network, network.num_features


def step_table(device: torch.device, rounds: int, most: float) -> list[dict[str, Any]]:
    """Training steps under cross-entropy and NCMI, which differ in the loss alone.

    Args:
        most: classes, at most.
    """
    cases: list[tuple[str, Callable[[], tuple[nn.Module, int]], tuple[int, ...], int]] = [
        ("ABMIL, 2,000 instances", _abmil, (1, 2000, 1024), 4),
        ("ResNet-18, 128 x 32²", lambda: image_network("resnet18", 32), (128, 3, 32, 32), 100),
    ]
    if device.type == "cuda":
        big = (128, 3, 224, 224)
        cases.append(("ResNet-50, 128 x 224²", lambda: image_network("resnet50", 224), big, 1000))
    rows = []
    for name, make, shape, classes in (case for case in cases if case[3] <= most):
        x = torch.randn(shape, device=device)
        target = torch.arange(shape[0], device=device) % classes
        steps = {}
        for objective_type in (CrossEntropy, NCMI):
            torch.manual_seed(0)
            network, dim = make()
            objective = started(objective_type(dim, [10] * classes), device)
            step = Step(network.to(device).train(), objective, device)
            steps[objective_type.__name__] = lambda s=step, x=x, y=target: s(x, target=y)
        times = seconds(steps, device, rounds=rounds, target=0.3)
        pairs = zip(times["NCMI"]["each"], times["CrossEntropy"]["each"], strict=True)
        ratio = statistics.median(ncmi / ce for ncmi, ce in pairs)  # of a round's two, in turn
        under_ce = times["CrossEntropy"]["median"] * 1e3
        print(f"{name:26} {under_ce:9.2f} ms under cross-entropy, NCMI x {ratio:.4f}", flush=True)
        rows.append({"step": name, "ratio": ratio, "seconds": times})
    return rows


def _abmil() -> tuple[nn.Module, int]:
    network = Pooled(1024)
    return network, network.embedding_dim


class Method(nn.Module):
    """A method of an objective as a forward, which `functional_call` can call."""

    def __init__(self, objective: Objective) -> None:
        super().__init__()
        self.objective = objective

    def forward(self, name: str, *arguments: Tensor) -> Any:
        found = getattr(self.objective, name)(*arguments)
        return found.total if isinstance(found, LossOutput) else found


def stacked_step(objectives: list[Objective], *, mapped: bool) -> Callable[[], None]:
    """The losses of a step of K models, their backward passes, and the step's end."""
    parameters, buffers = stack_module_state(objectives)  # type: ignore[arg-type]
    method = Method(copy.deepcopy(objectives[0]).to("meta"))
    state = {
        f"objective.{name}": value.detach().clone().requires_grad_(name in parameters)
        for name, value in (parameters | buffers).items()
    }
    batch, _, dim = STACK_SHAPE
    device = objectives[0].class_counts.device
    z = torch.randn(len(objectives), batch, dim, device=device, requires_grad=True)
    target = torch.arange(batch, device=device) % objectives[0].classes
    alternates = objectives[0].state_loss(z[0].detach(), target) is not None

    def loss(name: str, z: Tensor) -> Tensor:
        def one(state: dict[str, Tensor], z: Tensor) -> Tensor:
            found: Tensor = functional_call(method, state, (name, z, target))
            return found

        return vmap(one, randomness="same")(state, z) if mapped else one(state, z)

    def end_step(state: dict[str, Tensor]) -> Tensor:
        functional_call(method, state, ("end_step",))
        return z.detach()  # a mapped function returns something

    def call() -> None:
        for tensor in (z, *state.values()):
            tensor.grad = None
        if alternates:
            loss("state_loss", z.detach()).sum().backward()
        loss("forward", z).sum().backward()
        vmap(end_step, out_dims=None)(state) if mapped else end_step(state)

    return call


def stack_table(device: torch.device, rounds: int) -> list[dict[str, Any]]:
    """Stacks of K models of a small task: mapped over, and taken as they are."""
    _, classes, dim = STACK_SHAPE
    rows = []
    for count in STACKS:

        def of(kind: type[Objective], count: int = count) -> list[Objective]:
            return [started(kind(dim, [10] * classes), device) for _ in range(count)]

        rivals = {
            "cross-entropy, mapped": stacked_step(of(CrossEntropy), mapped=True),
            "NCMI, mapped": stacked_step(of(NCMI), mapped=True),
            "NCMI": stacked_step(of(NCMI), mapped=False),
        }
        times = seconds(rivals, device, rounds=rounds, target=0.1)
        each = {name: 1e3 * found["median"] / count for name, found in times.items()}
        text = ", ".join(f"{name} {value:.3f} ms" for name, value in each.items())
        print(f"{count:3} models, of each: {text}", flush=True)
        rows.append({"models": count, "shape": STACK_SHAPE, "seconds": times})
    return rows


def joined(earlier: Table, content: Table) -> Table:
    """New rows after those of other shapes and steps, which stay."""
    for key in ("losses", "steps"):
        kept = {json.dumps(row.get("shape", row.get("step"))) for row in content[key]}
        others = [
            row for row in earlier[key] if json.dumps(row.get("shape", row.get("step"))) not in kept
        ]
        content = content | {key: others + content[key]}
    return content


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--few", action="store_true")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    device = torch.device(arguments.device)
    most = FEW_CLASSES if arguments.few else math.inf
    content = {
        "losses": loss_table(device, arguments.rounds, most),
        "steps": step_table(device, arguments.rounds, most),
        "stacks": stack_table(device, arguments.rounds),
    }
    if arguments.few:
        earlier = json.loads((RESULTS / f"loss_cost-{device.type}.json").read_text())
        content = joined(earlier, content)
    print(record("loss_cost", device, content))


if __name__ == "__main__":
    main()
