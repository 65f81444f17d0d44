"""Validation NDCG@10 against seconds of training, for RecFound and RecBole's models: one picture.

    python -m benchmarks.quality_per_minute --json quality.json --picture docs/images/quality-per-minute.svg

Every model is trained alone, one after the other, for the same seconds, on the same split of ml-100k with the same
masks and one thread. Times run from the settings on: reading, building, validations and, for RecFound, loading the
backbone and encoding the items' texts are part of them, as a user waits for them.

Ratio:
    recfound_over_best_baseline  best validation score of RecFound over that of RecBole's models, in equal seconds
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

from matplotlib import pyplot as plt

from benchmarks.frame import finish, options, progress
from benchmarks.prepared import Prepared, precision_of
from recbole_recfound.backbone import BUNDLED
from recbole_recfound.baseline.recbole import baseline_config, fit
from recbole_recfound.config.configurator import Config
from recbole_recfound.data.split.protocol import build_splits
from recbole_recfound.runtime.time_plan import TimePlan

UNENDING = 100_000
"""Epochs, and validations without progress, that no training here reaches."""
Curve = list[tuple[float, float]]
"""Seconds of training and best validation score so far."""


def rising(found: Curve, started: float) -> Callable[[int, float], None]:
    """Return a callback that adds the best score so far to a curve.

    Args:
        found: the curve.
        started: time of `time.perf_counter()` at its beginning.
    """

    def watch(step: int, score: float) -> None:
        found.append((time.perf_counter() - started, max([score, *(best for _, best in found[-1:])])))

    return watch


def draw(found: dict[str, Curve], path: Path) -> None:
    """Write the picture.

    Args:
        found: curve of each model.
        path: an SVG file.
    """
    figure, axes = plt.subplots(figsize=(7.2, 3.6))
    end = max(seconds for curve in found.values() for seconds, _ in curve)
    for number, (name, curve) in enumerate(found.items()):
        style = {"linewidth": 1.2, "linestyle": ("-", "--", ":")[number % 3], "marker": "os^Dv"[number % 5]}
        if name == "RecFound":
            style = {"linewidth": 2.4, "color": "black", "marker": "o"}
        better = [point for point, before in zip(curve, [(0.0, -1.0), *curve], strict=False) if point[1] > before[1]]
        whole = [*better, (end, better[-1][1])]  # the best score stays
        mark = {"markevery": slice(len(better)), "markersize": 3, "drawstyle": "steps-post"}
        axes.plot(*zip(*whole, strict=True), label=name, **mark, **style)
    axes.set_xscale("log")
    axes.set_xlabel("seconds from the start, one thread")
    axes.set_ylabel("validation NDCG@10, best so far")
    axes.legend(fontsize=8, frameon=False, loc="center left", bbox_to_anchor=(1.0, 0.5))
    axes.grid(alpha=0.25)
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None})


def main(argv: list[str] | None = None) -> int:
    """Train, print, draw, write."""
    given = options(
        __doc__,
        argv,
        270.0,
        baselines=("Pop,ItemKNN,EASE,BPR,SASRec", "Pop,EASE,BPR", "RecBole's models"),
        backbone=(BUNDLED, BUNDLED, "causal LM"),
        picture=("", "", "file of the picture (SVG)"),
    )
    names = given.baselines.split(",")
    found: dict[str, Curve] = {}
    each = given.seconds / (len(names) + 1)
    with TemporaryDirectory() as folder:
        settings = {"backbone": given.backbone, "precision": precision_of(given.dtype), "only_tasks": ["U2I"]}
        settings |= {"baselines": names, "eval_interval": 25}
        # The seconds end a training, not a plateau, on which some models stand before they learn.
        settings["baseline_args"] = {name: {"epochs": UNENDING, "stopping_step": UNENDING} for name in names}
        config = Config("RecFound", "ml-100k", None, settings)
        for name in names:
            progress(name)
            started, curve = time.perf_counter(), found.setdefault(name, [])
            theirs = baseline_config(name, config, Path(folder) / name)
            fit_until = time.monotonic() + each
            row, _ = fit(theirs, build_splits(theirs), fit_until, rising(curve, started))
            if not curve:  # learned in one go
                curve.append((time.perf_counter() - started, row.valid_metrics["ndcg@10"]))
        progress("RecFound")
        started, curve = time.perf_counter(), found.setdefault("RecFound", [])
        bench = Prepared("ml-100k", folder, settings, plan=TimePlan(each))
        watch = rising(curve, started)
        bench.trainer.fit(bench.loader, bench.splits.valid_data, saved=False, callback_fn=watch)
    found = {name: curve for name, curve in found.items() if curve}  # some had no time for a validation
    if given.picture:
        draw(found, Path(given.picture))
    best = {name: max(score for _, score in curve) for name, curve in found.items()}
    for name, score in sorted(best.items(), key=lambda pair: pair[1]):
        reached = next(seconds for seconds, value in found[name] if value == score)
        print(f"{name:12s} {score:.4f} after {reached:.0f} s")
    ours = best.pop("RecFound", 0.0)
    return finish({"recfound_over_best_baseline": ours / max(best.values())}, {}, given, curves=found)


if __name__ == "__main__":
    sys.exit(main())
