"""What all benchmarks share: options, timing in turn, the printed table and the JSON file."""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from recbole_recfound.runtime.device import choose_device, choose_precision

QUICK = 0.1
"""Part of the seconds that `--quick` measures."""


@dataclass(frozen=True)
class Mark:
    """A bound that a ratio must keep.

    Attributes:
        value: the bound.
        least: whether the ratio must be at least `value`; else at most.
    """

    value: float
    least: bool = False

    def kept(self, ratio: float) -> bool:
        """Return whether a ratio keeps the bound."""
        return ratio >= self.value if self.least else ratio <= self.value

    def __str__(self) -> str:
        return f"mark: {'>=' if self.least else '<='} {self.value:g}"


def options(doc: str | None, argv: list[str] | None, seconds: float | None, **sizes: tuple[Any, Any, str]) -> Any:
    """Read the command line of a benchmark.

    Args:
        doc: of the module.
        argv: the arguments; None: those of the process.
        seconds: that the timed part takes at most; None: every point is timed once, whatever it takes.
        sizes: name -> value, value with `--quick`, help text.

    Returns:
        The sizes, and `json`, `quick`, `device`, `dtype`, `seconds`.
    """
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, help="write the ratios to this file")
    parser.add_argument("--quick", action="store_true", help="a tenth of the time, at sizes that mean little")
    parser.add_argument("--device", type=torch.device, help="where to run; default: a GPU if there is one")
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), help="default: bfloat16 where the hardware has it")
    if seconds is not None:
        parser.add_argument("--seconds", type=float, default=seconds, help="of the timed part, at most")
    for name, (value, quick, text) in sizes.items():
        parser.add_argument(f"--{name}", type=type(value), help=f"{text} ({value}; quick: {quick})")
    given = parser.parse_args(argv)
    for name, (value, quick, _) in sizes.items():
        if getattr(given, name) is None:
            setattr(given, name, quick if given.quick else value)
    given.device = given.device or choose_device(None, None)
    given.dtype = given.dtype or {"bf16": "bfloat16"}.get(choose_precision("auto", given.device), "float32")
    if seconds is not None:
        given.seconds *= QUICK if given.quick else 1.0
    torch.set_num_threads(1)
    return given


def clock(device: torch.device) -> float:
    """Return CPU seconds of this process on a CPU, wall seconds on another device, after its work is done."""
    if device.type == "cpu":
        return time.process_time()
    torch.accelerator.synchronize(device)
    return time.perf_counter()


@dataclass(frozen=True)
class Times:
    """Seconds of several sides that were timed in turn, so that a slow moment hits all of them.

    Attributes:
        seconds: of each side, round by round.
    """

    seconds: Mapping[str, list[float]]

    def ratio(self, side: str, reference: str) -> tuple[float, float, float]:
        """Return median and quartiles of the ratio of two sides' seconds.

        Args:
            side: above the line.
            reference: below it.
        """
        found = [a / b for a, b in zip(self.seconds[side], self.seconds[reference], strict=True)]
        quartiles = statistics.quantiles(found, n=4) if len(found) > 1 else [found[0]] * 3
        return statistics.median(found), quartiles[0], quartiles[2]

    def medians(self) -> dict[str, float]:
        """Return the median seconds of each side."""
        return {name: statistics.median(times) for name, times in self.seconds.items()}


def in_turn(
    sides: Mapping[str, Callable[[], object]], device: torch.device, seconds: float, least: int = 3, most: int = 25
) -> Times:
    """Time several sides in turn until the time is over.

    Args:
        sides: name -> work.
        device: where the work is done.
        seconds: for all rounds, at most; `least` rounds are made anyway.
        least: rounds.
        most: rounds.
    """
    found: dict[str, list[float]] = {name: [] for name in sides}
    end = time.perf_counter() + seconds
    with tqdm(total=most, desc=", ".join(sides)[:50], dynamic_ncols=True) as bar:
        for number in range(most + 1):
            # Every other round backwards: nobody always runs after the same neighbour. The first one warms up.
            for name, work in list(sides.items())[:: 1 if number % 2 else -1]:
                started = clock(device)
                work()
                if number:
                    found[name].append(clock(device) - started)
            bar.update(bool(number))
            if number >= least and time.perf_counter() > end:
                break
    return Times(found)


Ratios = dict[str, tuple[float, float, float]]
"""Median and quartiles of each ratio; three equal numbers where it was not timed."""


def finish(
    ratios: Mapping[str, tuple[float, float, float] | float], marks: Mapping[str, Mark], given: Any, **more: Any
) -> int:
    """Print the ratios, write them, and return 1 if a mark is missed.

    Args:
        ratios: by name, with or without quartiles.
        marks: bounds by name of the ratio, or by its first word.
        given: of `options`.
        more: further entries of the file, such as the seconds behind the ratios.
    """
    table = {name: value if isinstance(value, tuple) else (value,) * 3 for name, value in ratios.items()}
    missed = 0
    for name, (median, low, high) in table.items():
        mark = marks.get(name) or marks.get(name.partition(" ")[0])
        spread = f"  ({low:.3f} to {high:.3f})" if high > low else ""
        kept = mark is None or mark.kept(median)
        missed += not kept
        print(f"{name:44s} {median:9.3f}{spread}{f'  {mark}' if mark else ''}{'' if kept else '  MISSED'}", flush=True)
    if given.json:
        settings = {name: str(value) for name, value in vars(given).items() if name != "json"}
        document = {
            "ratios": {name: median for name, (median, _, _) in table.items()},
            "quartiles": {name: [low, high] for name, (_, low, high) in table.items() if high > low},
            **more,
            "settings": settings,
            "versions": {"torch": torch.__version__, "python": platform.python_version()},
        }
        given.json.write_text(json.dumps(document, indent=2) + "\n")
    return int(missed > 0)


def progress(line: str) -> None:
    """Print what is done, where no bar is drawn."""
    print(line, file=sys.stderr, flush=True)
