"""How much of a training step on users' histories is the LLM's work on items, and how much is not.

    python -m benchmarks.padding --data ml-100k /path/amazon-industrial --json padding.json

A real loader gives the steps, of U2I alone. Sides are timed in turn, one thread, CPU time (wall time on a GPU).

Ratios, each `NAME of DATA SET`:
    rows_over_tokens         rows that the LLM's products compute over positions that carry an item
    step_over_frozen_layers  a whole step (gradients and optimiser) over forward and backward, to the input, of the same
                             frozen layers on the same positions without any padding
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from recbole.utils import init_seed

from benchmarks.report import write_report
from recbole_recfound.adapter import without_adapter
from recbole_recfound.backbone import Decoder, decode, decoder_of, first_layers
from recbole_recfound.config.configurator import Config
from recbole_recfound.data import StepBatch
from recbole_recfound.data.split.protocol import build_splits
from recbole_recfound.model.recfound import RecFound
from recbole_recfound.trainer.loader import build_loader
from recbole_recfound.trainer.recfound import RecFoundTrainer

MARKS = {"rows_over_tokens": 1.15, "step_over_frozen_layers": 1.8}


class Bench:
    """The model, the trainer and some steps of one data set.

    Args:
        data: name of a data set that RecBole ships, or a folder of atomic files.
        steps: number of batches.
        settings: further settings of the run.
    """

    def __init__(self, data: str, steps: int, settings: dict[str, object]) -> None:
        folder = Path(data)
        where = {"data_path": str(folder.parent)} if folder.is_dir() else {}
        self.name = folder.name
        config = Config("RecFound", self.name, None, {"only_tasks": ["U2I"], "time_budget": 0} | where | settings)
        init_seed(config["seed"], config["reproducibility"])
        splits = build_splits(config)
        self.model = RecFound(config, splits.train_set)
        self.trainer = RecFoundTrainer(config, self.model)
        loader = self.trainer.loader = build_loader(config, self.model.parts.data)
        self.trainer.refresh_items()
        self.trainer.probes = self.trainer._build_probes()
        self.batches = [loader.next_batch() for _ in range(steps)]
        self.rows = self._rows()

    def _rows(self) -> int:
        """Count the rows of the first layer's MLP over all steps."""
        found: list[int] = []
        layer = decoder_of(self.model.backbone.get_base_model()).layers[0].mlp
        with torch.no_grad(), layer.register_forward_hook(lambda _, given, out: found.append(out[..., 0].numel())):
            for batch in self.batches:
                for part in batch.parts:
                    self.model.example_losses(part.to(self.trainer.device))
        return sum(found)

    def positions(self, batch: StepBatch) -> list[int]:
        """Return the items of each history of a step."""
        return [int(size) for part in batch.parts for size in (part.items > 0).sum(1)]

    def step(self, batch: StepBatch) -> None:
        """Make one optimiser step."""
        self.model.train()
        self.trainer._backward(batch)
        self.trainer._clip()
        self.trainer.optimizer.step()
        self.trainer.optimizer.zero_grad()

    def frozen(self, batch: StepBatch) -> Callable[[], None]:
        """Return forward and backward of the frozen layers over a step's positions, in histories of average length."""
        decoder: Decoder = first_layers(decoder_of(self.model.backbone.get_base_model()), self.model.user_depth)
        total, count = sum(self.positions(batch)), len(self.positions(batch))
        length = max(1, round(total / count))
        states = torch.randn(max(1, round(total / length)), length, decoder.config.hidden_size)
        states = states.to(self.trainer.device, decoder.dtype).requires_grad_()

        def run() -> None:
            with without_adapter(self.model.backbone), self.trainer.accelerator.autocast():
                decode(decoder, states).sum().backward()

        return run


def seconds(device: torch.device, action: Callable[[], None]) -> float:
    """Return the CPU seconds of an action, or its wall time on another device."""
    clock = time.process_time if device.type == "cpu" else time.perf_counter
    started = clock()
    action()
    if device.type != "cpu":
        torch.accelerator.synchronize()
    return clock() - started


def main(argv: list[str] | None = None) -> int:
    """Print and write the ratios of every data set."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", nargs="+", default=["ml-100k"], help="names, or folders of atomic files")
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--backbone", help="another one than the default")
    parser.add_argument("--precision", default="auto", choices=("auto", "bf16", "float32"))
    parser.add_argument("--quick", action="store_true", help="few steps, for what is printed")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args(argv)
    torch.set_num_threads(1)
    ratios: dict[str, float] = {}
    settings: dict[str, object] = {"precision": options.precision}
    settings |= {"backbone": options.backbone} if options.backbone else {}
    for data in options.data:
        with TemporaryDirectory() as folder:
            bench = Bench(data, 2 if options.quick else options.steps, settings | {"checkpoint_dir": folder})
            ratios[f"rows_over_tokens of {bench.name}"] = bench.rows / sum(
                sum(bench.positions(batch)) for batch in bench.batches
            )
            pairs = []
            bench.step(bench.batches[0])  # the first step allocates
            device = bench.trainer.device
            for batch in bench.batches:
                sides = partial(bench.step, batch), bench.frozen(batch)
                pairs.append((seconds(device, sides[0]), seconds(device, sides[1])))
            ratios[f"step_over_frozen_layers of {bench.name}"] = statistics.median(a / b for a, b in pairs)
            print(
                f"{bench.name}: {statistics.median(a for a, _ in pairs):.2f} s a step, "
                f"{statistics.median(b for _, b in pairs):.2f} s of frozen layers",
                flush=True,
            )
    for name, ratio in ratios.items():
        print(f"{name:50s} {ratio:.3f}", flush=True)
    if options.json:
        write_report(options.json, ratios, options)
    return int(any(ratio > MARKS[name.split(" of ")[0]] for name, ratio in ratios.items()))


if __name__ == "__main__":
    sys.exit(main())
