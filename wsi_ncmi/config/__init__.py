"""The configuration: everything that is not a part, as pydantic models that refuse unknown keys.

A part's own options (an encoder's, aggregator's, objective's or dataset's) are a frozen dataclass
in its file; here they are a mapping, checked against the schemas that `wsi-ncmi schema` generates,
so that planning a workflow imports neither torch nor pandas.
"""

from wsi_ncmi.config.adversarial import Adversarial
from wsi_ncmi.config.arms import (
    SEARCHES,
    Arm,
    ImageTraining,
    Part,
    Search,
    Setting,
    TaskBase,
    Training,
)
from wsi_ncmi.config.base import SAFE_NAME, ArmName, Fraction, Model, Name, problems_of
from wsi_ncmi.config.benchmark import Benchmark, Member, members
from wsi_ncmi.config.check import parse, part_problems
from wsi_ncmi.config.cohort import (
    SLIDE_MINUTES,
    Attention,
    Config,
    Demo,
    Experiment,
)
from wsi_ncmi.config.evaluation import Evaluation, Family
from wsi_ncmi.config.extraction import Augmentation, Extraction, Transform
from wsi_ncmi.config.fetch import Fetch
from wsi_ncmi.config.protocol import Protocol
from wsi_ncmi.config.published import PublishedValue
from wsi_ncmi.config.sources import Bags, External, ExternalBags, OtherBags, Slides
from wsi_ncmi.config.tasks import ImageTask, Task
from wsi_ncmi.config.tiling import Tiling, Tissue

__all__ = [
    "SAFE_NAME",
    "SEARCHES",
    "SLIDE_MINUTES",
    "Adversarial",
    "Arm",
    "ArmName",
    "Attention",
    "Augmentation",
    "Bags",
    "Benchmark",
    "Config",
    "Demo",
    "Evaluation",
    "Experiment",
    "External",
    "ExternalBags",
    "Extraction",
    "Family",
    "Fetch",
    "Fraction",
    "ImageTask",
    "ImageTraining",
    "Member",
    "Model",
    "Name",
    "OtherBags",
    "Part",
    "Protocol",
    "PublishedValue",
    "Search",
    "Setting",
    "Slides",
    "Task",
    "TaskBase",
    "Tiling",
    "Tissue",
    "Training",
    "Transform",
    "members",
    "parse",
    "part_problems",
    "problems_of",
]
