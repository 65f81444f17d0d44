"""RecFound on the tiny backbone and data set, as `run_recfound` builds it, without training it."""

from dataclasses import dataclass
from pathlib import Path

import torch
from accelerate import Accelerator
from recbole.utils import init_seed

from recbole_recfound.backbone import load_backbone
from recbole_recfound.config.configurator import Config
from recbole_recfound.config.options import MergeOptions
from recbole_recfound.data.batches import BatchOptions
from recbole_recfound.data.split.protocol import Splits, build_splits
from recbole_recfound.runtime.device import choose_device
from recbole_recfound.runtime.time_plan import TimePlan
from recbole_recfound.system.recfound.build import Built, build_recfound
from recbole_recfound.trainer.checkpoint import CheckpointStore
from recbole_recfound.trainer.recfound import RecFoundTrainer
from tests.settings import Settings


@dataclass(frozen=True)
class Small:
    """What a test needs of a run."""

    config: Config
    splits: Splits
    built: Built
    device: torch.device

    @property
    def model(self):
        return self.built.model

    @property
    def loader(self):
        return self.built.loader

    def trainer(self, folder: Path, plan: TimePlan | None = None) -> RecFoundTrainer:
        """A trainer that keeps its checkpoints in `folder`."""
        accelerator = Accelerator(
            cpu=True, gradient_accumulation_steps=BatchOptions.of(self.config["batch_args"], "batch_args").accumulation
        )
        store = CheckpointStore(folder, MergeOptions.read(self.config)[0].last)
        return RecFoundTrainer(self.config, self.model, accelerator=accelerator, store=store, plan=plan or TimePlan(0))


def build_small(settings: dict, **changes) -> Small:
    """Build the model of `settings` (the fixture `small_run`) with some of them changed."""
    config = Config("RecFound", "tiny", config_dict=Settings(settings) | changes)
    init_seed(config["seed"], config["reproducibility"])
    device = choose_device(config["use_gpu"], config["gpu_id"])
    splits = build_splits(config)
    backbone = load_backbone(config["backbone"], device)
    return Small(config, splits, build_recfound(config, splits, backbone), device)


def perturb(model: torch.nn.Module, seed: int = 0, std: float = 0.05) -> None:
    """Give every adapter's B some noise: at zero, half of the adapter has no gradient and the route has no effect."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "lora_B" in name:
                weight.add_(torch.randn(weight.shape, generator=generator) * std)
