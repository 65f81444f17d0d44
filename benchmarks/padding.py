"""How much of a training step on users' histories is the LLM's work on items, and how much is not.

    python -m benchmarks.padding --data ml-100k,/path/amazon-industrial --json padding.json

A real loader gives the steps, of U2I alone. Sides are timed in turn; on a CPU one thread is used and its CPU time is
counted; on another device, wall time after synchronisation.

Ratios, each `NAME of DATA SET`:
    rows_over_tokens         rows that the LLM's products compute over positions that carry an item
    step_over_frozen_layers  a whole step (gradients and optimiser) over forward and backward, to the input, of the same
                             frozen layers on the same positions without any padding
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from tempfile import TemporaryDirectory

import torch

from benchmarks.frame import Mark, Ratios, finish, in_turn, options, progress
from benchmarks.prepared import Prepared, precision_of
from recbole_recfound.adapter import without_adapter
from recbole_recfound.backbone import BUNDLED, Decoder, decode, decoder_of, first_layers
from recbole_recfound.data import StepBatch

MARKS = {"rows_over_tokens": Mark(1.15), "step_over_frozen_layers": Mark(1.8)}


class Bench(Prepared):
    """Some steps on the histories of one data set.

    Args:
        data: name of a data set that RecBole ships, or a folder of atomic files.
        folder: for checkpoints.
        steps: number of batches.
        settings: further settings of the run.
    """

    def __init__(self, data: str, folder: str, steps: int, settings: dict[str, object]) -> None:
        super().__init__(data, folder, {"only_tasks": ["U2I"], **settings})
        self.batches = [self.loader.next_batch() for _ in range(steps)]
        self.rows = self._rows()

    def _rows(self) -> int:
        """Count the rows of the first layer's MLP over all steps."""
        found: list[int] = []
        layer = decoder_of(self.model.backbone.get_base_model()).layers[0].mlp
        with torch.no_grad(), layer.register_forward_hook(lambda _, given, out: found.append(out[..., 0].numel())):
            for batch in self.batches:
                for part in batch.parts:
                    self.model.example_losses(part.to(self.device))
        return sum(found)

    def positions(self, batch: StepBatch) -> list[int]:
        """Return the items of each history of a step."""
        return [int(size) for part in batch.parts for size in (part.items > 0).sum(1)]

    def frozen(self, batch: StepBatch) -> Callable[[], None]:
        """Return forward and backward of the frozen layers over a step's positions, in histories of average length."""
        decoder: Decoder = first_layers(decoder_of(self.model.backbone.get_base_model()), self.model.user_depth)
        total, count = sum(self.positions(batch)), len(self.positions(batch))
        length = max(1, round(total / count))
        states = torch.randn(max(1, round(total / length)), length, decoder.config.hidden_size)
        states = states.to(self.device, decoder.dtype).requires_grad_()

        def run() -> None:
            with without_adapter(self.model.backbone), self.trainer.accelerator.autocast():
                decode(decoder, states).sum().backward()

        return run


def main(argv: list[str] | None = None) -> int:
    """Print and write the ratios of every data set."""
    given = options(
        __doc__,
        argv,
        120.0,
        data=("ml-100k", "ml-100k", "names of data sets, or folders of atomic files, separated by commas"),
        steps=(8, 2, "batches"),
        backbone=(BUNDLED, BUNDLED, "causal LM"),
    )
    ratios: Ratios = {}
    names = given.data.split(",")
    for data in names:
        with TemporaryDirectory() as folder:
            settings = {"backbone": given.backbone, "precision": precision_of(given.dtype)}
            bench = Bench(data, folder, given.steps, settings)
            progress(f"{bench.name}: {given.steps} steps")
            positions = sum(sum(bench.positions(batch)) for batch in bench.batches)
            ratios[f"rows_over_tokens of {bench.name}"] = (bench.rows / positions,) * 3
            frozen = [bench.frozen(batch) for batch in bench.batches]
            sides = {
                "step": lambda bench=bench: [bench.step(batch) for batch in bench.batches],
                "frozen layers": lambda frozen=frozen: [work() for work in frozen],
            }
            times = in_turn(sides, bench.device, given.seconds / len(names), least=1)
            ratios[f"step_over_frozen_layers of {bench.name}"] = times.ratio("step", "frozen layers")
    return finish(ratios, MARKS, given)


if __name__ == "__main__":
    sys.exit(main())
