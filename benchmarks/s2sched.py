"""What S2Sched's probes cost, and whether small ones tell what large ones tell.

    python -m benchmarks.s2sched --json s2sched.json

Two trainings of all tasks on ml-100k: one as a run does it; in the other a second scheduler listens, which at the same
steps gets the losses of the same tasks on `--full` examples instead of 4.

Ratios:
    probe_share       the probes' part of the time of all steps under a time limit
    rank_correlation  Spearman's, of the shares that both schedulers give the tasks, after the first third of the steps
"""

from __future__ import annotations

import sys
import time
from tempfile import TemporaryDirectory

import numpy as np
from scipy.stats import spearmanr
from tqdm import tqdm

from benchmarks.frame import Mark, finish, options, progress
from benchmarks.prepared import Prepared, precision_of
from recbole_recfound.backbone import BUNDLED
from recbole_recfound.data import scheduler_groups, scheduler_sizes
from recbole_recfound.runtime.time_plan import TimePlan
from recbole_recfound.sampler import S2Sched
from recbole_recfound.trainer.probes import Probes

MARKS = {"probe_share": Mark(0.02), "rank_correlation": Mark(0.9, least=True)}


def probe_share(settings: dict[str, object], seconds: float) -> float:
    """Train for some seconds and return the probes' part of the time of the steps."""
    with TemporaryDirectory() as folder:
        bench = Prepared("ml-100k", folder, settings)
        bench.trainer.plan = TimePlan(seconds)
        bench.trainer.fit(bench.loader, None, verbose=False, saved=False, show_progress=True)
        return bench.trainer.probe_share


def rank_correlation(settings: dict[str, object], seconds: float, full: int, interval: int) -> tuple[float, int]:
    """Train for some seconds under the small probes; return the correlation and the number of steps."""
    end = time.perf_counter() + seconds
    with TemporaryDirectory() as folder:
        bench = Prepared("ml-100k", folder, {**settings, "probe_args": {"size": full, "share": 0.2}})
        loader, large = bench.loader, bench.trainer.probes
        tasks = list(loader.tasks)
        batches = {
            name: loader.probe_batch(name)
            if name in loader.fixed_probes
            else loader.collate({name: [(int(row), number) for number, row in enumerate(loader.probes[name][:4])]})
            for name in tasks
        }
        batches = {name: batch.to(bench.device) for name, batch in batches.items()}
        small = Probes(batches, large.losses, interval, bench.device)
        sizes, groups = scheduler_sizes(loader.tasks), scheduler_groups(loader.tasks)
        # A short warm-up: a short training is to have an opinion.
        schedulers = [S2Sched(sizes, groups, warmup=2) for _ in range(2)]
        loader.scheduler = schedulers[0]
        both = list(zip(schedulers, (small, large), strict=True))
        for scheduler, probes in both:
            scheduler.update(probes.measure(bench.model, tasks))
        shares: list[list[np.ndarray]] = [[], []]
        step = 0
        with tqdm(desc="steps", dynamic_ncols=True) as bar:
            while time.perf_counter() < end or step < interval:
                step += 1
                bench.step(loader.next_batch().to(bench.device))
                due = small.due(step)
                for found, (scheduler, probes) in zip(shares, both, strict=True):
                    scheduler.update(probes.measure(bench.model, due))
                    found.append(scheduler.shares())
                bar.update()
    later = [np.concatenate(found[step // 3 :]) for found in shares]
    return float(spearmanr(*later).statistic), step


def main(argv: list[str] | None = None) -> int:
    """Measure, print, write; 1 if a mark is missed."""
    given = options(
        __doc__,
        argv,
        240.0,
        full=(24, 6, "examples of a full probe"),
        interval=(14, 7, "steps within which every task is probed"),
        backbone=(BUNDLED, BUNDLED, "causal LM"),
    )
    settings: dict[str, object] = {"backbone": given.backbone, "precision": precision_of(given.dtype)}
    share = probe_share(settings, 0.4 * given.seconds)
    progress(f"probes took {100 * share:.1f}% of the steps")
    correlation, steps = rank_correlation(settings, 0.6 * given.seconds, given.full, given.interval)
    return finish({"probe_share": share, "rank_correlation": correlation}, MARKS, given, steps=steps)


if __name__ == "__main__":
    sys.exit(main())
