"""How cost grows with the sizes of the data and of the model.

    python -m benchmarks.scaling --json scaling.json
    python -m benchmarks.scaling --largest 10000000 --only data      (as many interactions, with a tenth as many items)

One size grows at a time, in made data, and every point is a process of its own, so that its peak memory is its own. The
backbone has random weights and width 32: what surrounds the language model is measured. Only where histories grow has
it the bundled one's width, 576, since nothing but attention counts in a narrow one. A slope is the exponent between
the two largest sizes, log(ratio of seconds) / log(ratio of sizes): 1 is linear. Attention itself is quadratic in the
length of a history.

Stages:
    read   from the settings to RecBole's split
    build  model, tasks and loader, with collaborative factors and tokens of all texts
    texts  the text features of all items
    step   some steps of training, with their batches
    rank   all items for the first 1,024 users, or all (64 where histories grow), and their ten best

Ratios, where the larger point takes a second at least:
    slope STAGE over SIZE  the exponent
"""

from __future__ import annotations

import math
import multiprocessing
import sys
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from io import StringIO
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pandas as pd
import torch
from tqdm import tqdm

from benchmarks.frame import Mark, clock, finish, options
from benchmarks.prepared import Prepared
from recbole_recfound.runtime.device import peak_memory_gib
from tests.tiny_backbone import write_tiny_backbone

MARKS = {"slope": Mark(1.15)}
LEAST_SECONDS = 1.0
"""Shorter stages are told, but have no slope: what does not grow is most of them."""
STEPS = 8
RANKED = 1_024
STAGES, PEAK = ("read", "build", "texts", "step", "rank"), "peak GiB"


@dataclass(frozen=True)
class Point:
    """Sizes of one run.

    Attributes:
        users: in the data.
        items: in the data, each with an interaction at least.
        interactions: in all.
        history: items of a history that are read.
        experts: in each of the three groups.
        tasks: that are trained.
        width: of the backbone.
    """

    users: int = 2_000
    items: int = 2_000
    interactions: int = 40_000
    history: int = 50
    experts: int = 2
    tasks: int = 1
    width: int = 32


TASKS = ("U2I", "I2I", "SR", "SA", "IP", "AVE")
"""Those that made data support, in the order in which they are added."""


def sweeps(largest: int) -> dict[str, list[tuple[int, Point]]]:
    """Return the points of each sweep with the size that grows.

    Args:
        largest: number of interactions.
    """
    counts = [count for count in (40_000, 160_000, 640_000, 2_500_000) if count < largest] + [largest]
    points = {
        "data": {count: Point(users=count // 20, items=count // 10, interactions=count) for count in counts},
        "users": {count: Point(users=count, interactions=20 * count) for count in (1_000, 4_000, 16_000)},
        "items": {count: Point(items=count, interactions=60_000) for count in (1_000, 6_000, 36_000)},
        "history": {
            size: Point(users=64, items=1_000, interactions=64 * (size + 2), history=size, width=576)
            for size in (32, 128, 512)
        },
        "experts": {count: Point(experts=count) for count in (1, 4, 16)},
        "tasks": {count: Point(tasks=count) for count in (1, 3, 6)},
    }
    return {name: list(sweep.items()) for name, sweep in points.items()}


def write_data(folder: Path, point: Point, seed: int = 0) -> Path:
    """Write atomic files: popularity falls with the item's number, every user and every item is there."""
    rng = np.random.default_rng(seed)
    rows = point.interactions
    users = np.repeat(np.arange(point.users), math.ceil(rows / point.users))[:rows]
    items = (point.items * rng.random(rows) ** 2).astype(np.int64)
    items[rng.permutation(rows)[: point.items]] = np.arange(point.items)
    order = rng.permutation(rows)
    inter = {
        "user_id:token": users[order],
        "item_id:token": items[order],
        "rating:float": rng.integers(1, 6, rows),
        "timestamp:float": 1_000_000_000 + 60 * np.arange(rows),
    }
    number = np.arange(point.items)
    colours = np.array(["red", "green", "blue", "white"])
    item = {
        "item_id:token": number,
        "title:token_seq": [f"{colours[each % 4]} thing {each:x}" for each in number.tolist()],
        "colour:token": colours[number % 4],
    }
    data = folder / "made"
    data.mkdir()
    for suffix, columns in (("inter", inter), ("item", item)):
        pd.DataFrame(columns).to_csv(data / f"made.{suffix}", sep="\t", index=False)
    return data


class Laps:
    """Seconds and peak memory of stages, one after the other."""

    def __init__(self) -> None:
        self.device = torch.device("cpu")
        self.seconds: dict[str, float] = {}

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Time a stage."""
        started = clock(self.device)
        yield
        self.seconds[name] = clock(self.device) - started


def measure(point: Point) -> dict[str, float]:
    """Return the seconds of each stage, and the peak memory in GiB, of a run of one point."""
    torch.set_num_threads(1)
    laps = Laps()
    with TemporaryDirectory() as name, redirect_stdout(StringIO()):
        folder = Path(name)
        data = write_data(folder, point)
        (folder / "backbone").mkdir()
        settings = {
            "backbone": str(write_tiny_backbone(folder / "backbone", width=point.width)),
            "precision": "float32",
            "use_gpu": False,
            "MAX_ITEM_LIST_LENGTH": point.history,
            "adapter_args": {"experts_per_group": point.experts},
            "tasks": list(TASKS[: point.tasks]),
            "load_col": {"inter": ["user_id", "item_id", "rating", "timestamp"]},
        }
        bench = Prepared(str(data), name, settings, laps.stage)
        with laps.stage("step"):
            for _ in range(STEPS):
                bench.step(bench.loader.next_batch())
        with laps.stage("rank"), torch.no_grad():
            bench.model.eval()
            loader = bench.splits.valid_data
            for rows, *_ in islice(loader, math.ceil(RANKED / loader.step)):
                bench.model.full_sort_predict(rows).view(len(rows), -1).topk(10)
    return laps.seconds | {PEAK: peak_memory_gib()}


def slopes(points: Sequence[tuple[int, Mapping[str, float]]]) -> dict[str, float]:
    """Return the exponent of each stage between the two largest sizes.

    Args:
        points: size, and what `measure` found.
    """
    if len(points) < 2:
        return {}
    (small, before), (large, after) = sorted(points, key=lambda point: point[0])[-2:]
    return {
        name: math.log(max(after[name], 1e-9) / max(before[name], 1e-9)) / math.log(large / small)
        for name in STAGES
        if after[name] >= LEAST_SECONDS
    }


def main(argv: list[str] | None = None) -> int:
    """Measure, print, write; 1 if something grows faster than linearly."""
    given = options(
        __doc__,
        argv,
        None,
        largest=(640_000, 80_000, "interactions of the largest data set"),
        only=("all", "data,experts", "sweeps, separated by commas"),
    )
    found: dict[str, list[dict[str, float]]] = {}
    ratios = {}
    every = sweeps(given.largest)
    names = list(every) if given.only == "all" else given.only.split(",")
    if unknown := sorted(set(names) - set(every)):
        raise SystemExit(f"only: got {', '.join(unknown)}, expected all or names among {', '.join(every)}")
    with tqdm(total=sum(len(every[name]) for name in names), dynamic_ncols=True) as bar:
        for name in names:
            bar.set_description(name)
            bar.write(f"{name:>12s} " + " ".join(f"{column:>9s}" for column in (*STAGES, PEAK)))
            measured = []
            for size, point in every[name]:
                with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as alone:
                    row = alone.submit(measure, point).result()
                bar.write(f"{size:12,d} " + " ".join(f"{row[column]:9.2f}" for column in (*STAGES, PEAK)))
                bar.update()
                measured.append((size, row))
            found[name] = [{"size": size, **row} for size, row in measured]
            ratios |= {f"slope {stage} over {name}": value for stage, value in slopes(measured).items()}
    return finish(ratios, MARKS, given, points=found)


if __name__ == "__main__":
    sys.exit(main())
