"""Images per second of a training, against a plain loop in the style of torchvision's reference.

    python benchmarks/image_training.py --device cpu --threads 1
    python benchmarks/image_training.py --device cuda

Both train the same network on the same images with a crop and a flip: this package by the steps and
data of its own loop (`training.learner`, `training.images`); the rival by a Dataset of PIL images,
torchvision's transforms, a DataLoader and `loss.item()` once in a while, as its reference script
has it. Beside them, what the parts can do alone: the data without a network, the network without
data. Then other losses in our loop; on a GPU as CUDA graphs, where they can be, and without. All in
turn, round after round; a ratio is the median over rounds, of CPU seconds on a CPU, which other
jobs on the machine disturb less, else of seconds. On a GPU the kernels of a step are counted too,
and graphs replayed without data. Prints them, writes results/image_training-<device>.json.
"""

import argparse
import dataclasses
import statistics
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from measure import RESULTS, record, spent
from PIL import Image
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

from wsi_ncmi.config import ImageTask, Transform
from wsi_ncmi.images.datasets.interface import Images
from wsi_ncmi.images.models import build_network
from wsi_ncmi.predictions.records import Run
from wsi_ncmi.training.captured import CapturedStep
from wsi_ncmi.training.images import ImageData, ImageParts, prepare
from wsi_ncmi.training.learner import Learner, for_images

SIDE, CLASSES, PAD = 32, 10, 4
OBJECTIVES = ("cross_entropy", "ncmi", "cmic_dl", "mutual_information")
OURS = "this package"
EAGER = "without a graph"
FLIP_AND_CROP = [
    Transform(name="RandomCrop", options={"size": [SIDE, SIDE], "padding": PAD}),
    Transform(name="RandomHorizontalFlip"),
]


def made_images(count: int) -> Images:
    """CIFAR's shape; pixels say nothing, for nothing is learnt here."""
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (count, SIDE, SIDE, 3), dtype=np.uint8)
    return Images([f"{n}" for n in range(count)], np.arange(count) % CLASSES, pixels)


@dataclasses.dataclass(frozen=True)
class Work:
    """What every rival trains.

    Attributes:
        workers: processes that load images, of either.
    """

    images: Images
    model: str
    batch_size: int
    precision: str
    workers: int
    device: torch.device

    def task(self, objective: str, *, graph: bool = True) -> ImageTask:
        training: dict[str, Any] = {
            "epochs": 1,
            "batch_size": self.batch_size,
            "precision": self.precision,
        }
        training["cuda_graph"] = "auto" if graph else False
        optimiser = {"optimiser": "sgd", "learning_rate": 0.01, "clip_norm": None}
        return ImageTask.model_validate(
            {
                "dataset": "cifar10",
                "path": "-",
                "model": self.model,
                "batch_augmentation": [one.model_dump() for one in FLIP_AND_CROP],
                "objectives": {objective: {}},
                "reference": objective,
                "training": training | optimiser,
            }
        )

    @property
    def steps(self) -> int:
        return len(self.images) // self.batch_size


class Own:
    """An epoch of our loop's steps, validation left out, of one objective.

    Args:
        graph: a CUDA graph of a step, on a GPU and where it can be done; else none.
    """

    def __init__(self, work: Work, objective: str, *, graph: bool = True) -> None:
        task = work.task(objective, graph=graph)
        parts = dict.fromkeys(("train", "val", "test"), work.images)
        found = ImageParts([*map(str, range(CLASSES))], parts, *_moments(), (SIDE, SIDE))
        run = Run("t", "c", "-", "official", 0, 0, work.model, objective, "last", "", "", {})
        self.setup = prepare(run, task, found, work.device, work.workers)
        self.setup.network.precision = work.precision
        self.learner = Learner(
            self.setup.network, self.setup.objective, for_images(self.setup.settings), 10**6
        )
        self.data: Any = self.setup.data
        self.epoch = 0

    def __call__(self) -> None:
        self.learner.train()
        for step, (inputs, target) in enumerate(self.data.training(self.epoch)):
            self.learner.step(inputs, target, self.setup.seeds(self.epoch, step))
        self.setup.objective.end_epoch(self.epoch)
        self.epoch += 1

    def load(self) -> None:
        """The data alone."""
        assert isinstance(self.data, ImageData)
        for _ in self.data.training(self.epoch):
            pass
        self.epoch += 1


class Repeated(Own):
    """The network and the loss alone: one batch, again and again."""

    def __init__(self, work: Work, objective: str, *, graph: bool = True) -> None:
        super().__init__(work, objective, graph=graph)
        self.batch = next(iter(self.data.training(0)))
        self.steps, self.data = work.steps, self

    def training(self, epoch: int) -> Iterator[tuple[Tensor, Tensor]]:
        yield from (self.batch for _ in range(self.steps))


class Pictures(Dataset[tuple[Tensor, int]]):
    """As a torchvision data set gives them: a PIL image through a chain of transforms."""

    def __init__(self, images: Images) -> None:
        self.images = images
        mean, std = _moments()
        self.transform = transforms.Compose(
            [
                transforms.RandomCrop(SIDE, padding=PAD),
                transforms.RandomHorizontalFlip(),
                transforms.ToTensor(),
                transforms.Normalize(mean.tolist(), std.tolist()),
            ]
        )

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        image = Image.fromarray(self.images.pixels[index])
        return self.transform(image), int(self.images.targets[index])


class Plain:
    """torchvision's way: DataLoader, model with its classifier, cross-entropy, SGD."""

    def __init__(self, work: Work) -> None:
        self.work, device = work, work.device
        encoder = build_network(work.task("cross_entropy"), (SIDE, SIDE), *map(list, _moments()))
        self.model = nn.Sequential(encoder.module, nn.Linear(encoder.embedding_dim, CLASSES))
        self.model.to(device)
        self.optimiser = torch.optim.SGD(self.model.parameters(), 0.01, 0.9, weight_decay=5e-4)
        self.loader = DataLoader(
            Pictures(work.images),
            work.batch_size,
            shuffle=True,
            num_workers=work.workers,
            pin_memory=device.type == "cuda",
            persistent_workers=work.workers > 0,
        )

    def __call__(self) -> None:
        self.model.train()
        device, half = self.work.device, self.work.precision == "bf16"
        for step, (images, target) in enumerate(self.loader):
            images = images.to(device, non_blocking=True)
            target = target.to(device, non_blocking=True)
            with torch.autocast(device.type, torch.bfloat16, enabled=half):
                loss = F.cross_entropy(self.model(images), target)
            self.optimiser.zero_grad()
            loss.backward()
            self.optimiser.step()
            if step % 10 == 0:  # as its MetricLogger does
                loss.item()

    def load(self) -> None:
        """The data alone."""
        for images, target in self.loader:
            images.to(self.work.device, non_blocking=True)
            target.to(self.work.device, non_blocking=True)


def _moments() -> tuple[np.ndarray, np.ndarray]:
    return np.full(3, 0.5), np.full(3, 0.25)


def rivals(work: Work) -> dict[str, Any]:
    """Name -> an epoch of it."""
    cuda = work.device.type == "cuda"
    plain, own = Plain(work), {name: Own(work, name) for name in OBJECTIVES}
    repeated = {f"{name} alone": Repeated(work, name) for name in OBJECTIVES[:2]}
    if cuda:
        own |= {f"{n}, {EAGER}": Own(work, n, graph=False) for n in OBJECTIVES[:2]}
        repeated |= {
            f"{name} alone, {EAGER}": Repeated(work, name, graph=False) for name in OBJECTIVES[:2]
        }
    return {
        "plain loop, cross_entropy": plain,
        **{f"{OURS}, {name}": one for name, one in own.items()},
        "plain loop, data alone": plain.load,
        f"{OURS}, data alone": own["cross_entropy"].load,
        **{f"{OURS}, network and {name}": one for name, one in repeated.items()},
    }


def kernels(own: Own) -> dict[str, float]:
    """Of one step on a GPU, data left out: kernels, and the microseconds that they run for."""
    inputs, target = next(iter(own.data.training(own.epoch)))
    own.learner.train()
    own.learner.step(inputs, target, 0)
    with profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA]) as profiler:
        own.learner.step(inputs, target, 0)
        torch.cuda.synchronize()
    found = [
        event.time_range.elapsed_us()
        for event in profiler.events() or []
        if event.device_type == torch.autograd.DeviceType.CUDA
        and not getattr(event, "is_user_annotation", False)
        and "Optimizer" not in event.name  # an annotation of torch's
    ]
    return {"kernels": len(found), "busy_us": sum(found)}


def replays_per_s(own: Own, seconds: float = 0.5) -> float | None:
    """Of a step's CUDA graph, one after another; None: it has none."""
    step = own.learner.take
    if not isinstance(step, CapturedStep) or step.replay is None:
        return None
    torch.cuda.synchronize()
    start, count = time.perf_counter(), 0
    while time.perf_counter() - start < seconds:
        for _ in range(10):
            step.replay()
        torch.cuda.synchronize()
        count += 10
    return count / (time.perf_counter() - start)


def of_steps(found: dict[str, Any], batch_size: int) -> dict[str, dict[str, Any]]:
    """What a GPU does in a step of each of our loops; they have run."""
    steps = {}
    for name, own in found.items():
        if isinstance(own, Own) and not isinstance(own, Repeated):
            rate = replays_per_s(own)
            steps[name] = {**kernels(own), "replayed_images_per_s": rate and rate * batch_size}
    return steps


def ratio(found: dict[str, dict[str, Any]], above: str, below: str, *, cpu: bool) -> float:
    """How many times as many images per second, the median over rounds."""
    pairs = zip(found[below]["each"], found[above]["each"], strict=True)
    return statistics.median(slow[cpu] / fast[cpu] for slow, fast in pairs)


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--workers", type=int, default=0)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--limit", type=float, default=None, help="seconds: no round begins later")
    parser.add_argument("--images", type=int, default=1024)
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--model", default=None, help="default: test_resnet, on a GPU resnet18")
    parser.add_argument("--out", type=Path, default=RESULTS)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    cuda = given.device == "cuda"
    work = Work(
        made_images(given.images),
        given.model or ("resnet18" if cuda else "test_resnet"),
        given.batch_size,
        "bf16" if cuda else "fp32",
        given.workers,
        torch.device(given.device),
    )
    torch.backends.cudnn.benchmark = cuda
    called = rivals(work)
    found = spent(called, work.device, rounds=given.rounds, limit=given.limit)
    key = "wall_s" if cuda else "cpu_s"
    rates = {name: given.images / one[key] for name, one in found.items()}
    own = f"{OURS}, cross_entropy"
    ratios = {f"{own} / plain loop": ratio(found, own, "plain loop, cross_entropy", cpu=not cuda)}
    ratios |= {
        f"{OURS}, {name} / cross_entropy": ratio(found, f"{OURS}, {name}", own, cpu=not cuda)
        for name in OBJECTIVES[1:]
    }
    ratios |= {
        f"{OURS}, {name} / the same {EAGER}": ratio(
            found, f"{OURS}, {name}", f"{OURS}, {name}, {EAGER}", cpu=False
        )
        for name in OBJECTIVES[:2]
        if cuda
    }
    for name, value in {**rates, **ratios}.items():
        print(f"{name:60} {value:10.3f}")
    facts = {k: v for k, v in vars(given).items() if k != "out"} | {"model": work.model}
    content = {"setting": facts, f"images_per_{key}": rates, "ratios": ratios, "seconds": found}
    if cuda:
        content["steps"] = of_steps(called, given.batch_size)
        print(*content["steps"].items(), sep="\n")
    print(record("image_training", work.device, content, given.out))


if __name__ == "__main__":
    main()
