"""torchmil's own trainer as a rival: the package torchmil 1.0.2, which only this benchmark uses."""

import torch
from mil_bags import Work
from mil_rivals import FEW, Way
from torch import Tensor, nn
from torch.optim import AdamW
from torch.utils.data import DataLoader, Dataset

from wsi_ncmi.training.bags import BagData


class TorchMIL(Way):
    """The trainer of torchmil 1.0.2 with its own ABMIL, its own collating and AdamW."""

    def __init__(self, work: Work, most: int) -> None:
        super().__init__(work, min(most, FEW))
        from torchmetrics.classification import MultilabelAccuracy
        from torchmil.data import collate_fn
        from torchmil.models import ABMIL
        from torchmil.utils import Trainer

        options = work.case.options["abmil"]
        hidden, classes = options["hidden_dim"], work.case.classes
        setup = work.setup(0)
        assert isinstance(setup.data, BagData)
        data = _TorchMILBags(setup.data, classes)
        size = work.case.batch_size
        self.loader = DataLoader(data, size, shuffle=True, collate_fn=collate_fn)
        self.one_bag = DataLoader(_First(data), 1, collate_fn=collate_fn)
        self.trainers = []
        for _ in range(self.trained):
            layers = nn.Linear(work.case.dim, hidden), nn.ReLU(), nn.Dropout(0.25)
            model = ABMIL(
                (work.case.dim,),
                options["attention_dim"],
                gated=True,
                feat_ext=nn.Sequential(*layers),
                criterion=nn.CrossEntropyLoss(),
            )
            model.classifier = nn.Linear(hidden, classes)  # its own has one output
            trainer = Trainer(
                model,
                AdamW(model.parameters(), 1e-4, fused=True),
                {"accuracy": MultilabelAccuracy(classes)},
                device="cpu",
                disable_pbar=True,
                verbose=False,
            )
            self.trainers.append(trainer)

    def train(self) -> None:
        for trainer in self.trainers:
            trainer.train(1, self.loader, self.one_bag)  # without bags it validates on training's


class _TorchMILBags(Dataset):  # type: ignore[type-arg]
    def __init__(self, data: BagData, classes: int) -> None:
        self.data, self.classes = data, classes

    def __len__(self) -> int:
        return len(self.data.parts["train"])

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        sample = self.data.parts["train"][index]
        target = nn.functional.one_hot(torch.tensor(sample.target), self.classes)
        features = self.data.cache.read(sample.slide_ids)
        return {"X": torch.from_numpy(features).float(), "Y": target}


class _First(Dataset):  # type: ignore[type-arg]
    def __init__(self, data: _TorchMILBags) -> None:
        self.data = data

    def __len__(self) -> int:
        return 1

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        return self.data[0]
