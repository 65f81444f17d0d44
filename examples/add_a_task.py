"""Add a task, a scheduler, a merge method and a metric of answers: everything that a new one of each needs.

Importing this file registers all four; no file of the package is edited. Their names can then be used in YAML files and
on the command line, as in examples/add_a_task.yaml:

    python examples/add_a_task.py --config_files=examples/add_a_task.yaml

In a notebook, import this file and call `run_recfound(config_file_list=["examples/add_a_task.yaml"])`.
"""

import re
import sys
from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from recbole_recfound.cli import main
from recbole_recfound.data.task import (
    ANSWER_METRICS,
    PARSED,
    AnswerMetric,
    GenerativeExample,
    GenerativeOptions,
    ItemTask,
    register_task,
)
from recbole_recfound.merge import merge_method
from recbole_recfound.runtime.options import option
from recbole_recfound.sampler import SCHEDULERS, Scheduler


@ANSWER_METRICS.register("within_a_decade")
class WithinADecade(AnswerMetric):
    """Share of years that are at most ten years off; an unparseable answer counts as wrong."""

    metric_need = PARSED

    def score(self, data) -> float:
        """Return the value, 0 to 1."""
        pairs = zip(data["gen.predicted"], data["gen.wanted"], strict=True)
        return float(np.mean([year is not None and abs(year - target) <= 10 for year, target in pairs]))


@dataclass(frozen=True)
class ReleaseYearOptions(GenerativeOptions):
    """Options of YR.

    Attributes:
        column: column of the .item file with the year.
    """

    column: str = option("release_year")


@register_task("YR")
class ReleaseYear(ItemTask):
    """Name the year in which an item was released, given its title; tested on items that are excluded from training."""

    title = "release year"
    Options = ReleaseYearOptions
    options: ReleaseYearOptions
    prompt = 'In which year was "{{ item }}" released? Answer with the year.'
    slots = ("item",)
    metrics = (WithinADecade,)
    needs = "no item has a year"

    def suits(self, row: int) -> bool:
        """Return whether an item has a year."""
        return self.parses(self.source.catalogue.values[row].get(self.options.column, ""))

    def of_row(self, row: int) -> GenerativeExample:
        """Return an item's title with its year."""
        return GenerativeExample({"item": ("title", row)}, self.source.catalogue.values[row][self.options.column])

    @classmethod
    def parse(cls, text: str, choices: Collection[str]) -> int | None:
        """Parse the first number of four digits."""
        year = re.search(r"\b\d{4}\b", text)
        return int(year[0]) if year else None


@SCHEDULERS.register("square_root")
class SquareRoot(Scheduler):
    """Sample in proportion to the square root of the tasks' sizes: between `proportional` and `uniform`."""

    def shares(self) -> np.ndarray:
        """Return the sampling shares [tasks]."""
        return self.within_groups(np.sqrt(self.sizes))


@merge_method("median")
def median(tensors: Sequence[torch.Tensor]) -> torch.Tensor:
    """Return the median of each entry.

    Args:
        tensors: K tensors of one shape.
    """
    return torch.stack(list(tensors)).median(dim=0).values


if __name__ == "__main__":
    sys.exit(main(["run", *sys.argv[1:]]))
