"""What S2Sched's probes cost, and whether small ones tell what large ones tell.

    python -m benchmarks.s2sched --json s2sched.json

Two trainings of all tasks on ml-100k: one as a run does it, which leaves probes out that would take more than their
share; in the other none is left out, and a second scheduler listens, which at the same steps gets the losses of the
same tasks on other examples, `--full` of them instead of 4 (of U2I four times as many).

Ratios:
    probe_share           the probes' part of the time of all steps under a time limit
    probe_share_uncapped  what it would be if none were left out: one probe of each task in 63 steps, by the seconds
                          that a probe takes in the second training and a step in the first
    rank_correlation      Spearman's, of the shares that both schedulers give the tasks, after a third of the steps
"""

from __future__ import annotations

import sys
import time
from dataclasses import replace
from tempfile import TemporaryDirectory

import numpy as np
from scipy.stats import spearmanr
from tqdm import tqdm

from benchmarks.frame import Mark, finish, options, progress
from benchmarks.prepared import Prepared, precision_of
from recbole_recfound.backbone import BUNDLED
from recbole_recfound.data import StepBatch, scheduler_groups, scheduler_sizes
from recbole_recfound.data.multi_task import USERS
from recbole_recfound.runtime.time_plan import TimePlan
from recbole_recfound.sampler import S2Sched
from recbole_recfound.trainer.probes import ProbeOptions, Probes

MARKS = {"probe_share": Mark(0.02), "rank_correlation": Mark(0.9, least=True)}


SMALL = 4
"""Examples of a run's probe; of U2I four times as many."""


def probe_share(settings: dict[str, object], seconds: float) -> tuple[float, float]:
    """Train for some seconds; return the probes' part of the time of the steps, and the seconds of a step."""
    with TemporaryDirectory() as folder:
        bench = Prepared("ml-100k", folder, settings, plan=TimePlan(seconds))
        bench.trainer.fit(bench.loader, None, verbose=False, saved=False, show_progress=True)
        return bench.trainer.probe_share, bench.trainer.step_seconds / max(1, bench.trainer.step)


def some(batch: StepBatch, first: int, last: int) -> StepBatch:
    """Return some of the sequences of U2I's probe, which has four where other tasks have an example."""
    (part,), rows = batch.parts, slice(4 * first, 4 * last)
    part = replace(part, tasks=part.tasks[rows], items=part.items[rows], targets=part.targets[rows])
    return StepBatch([part], {USERS: len(part)})


def rank_correlation(settings: dict[str, object], seconds: float, full: int, interval: int) -> tuple[float, int, float]:
    """Train for some seconds under the small probes; return the correlation, the steps, and the seconds of a round."""
    end = time.perf_counter() + seconds
    with TemporaryDirectory() as folder:
        bench = Prepared("ml-100k", folder, {**settings, "probe_args": {"size": SMALL + full, "share": 0.2}})
        loader, losses = bench.loader, bench.trainer.probes.losses
        tasks = list(loader.tasks)

        def probe(name: str, first: int, last: int) -> StepBatch:
            if name in loader.fixed_probes:
                return some(loader.probe_batch(name), first, last)
            rows = map(int, loader.probes[name][first:last])
            return loader.collate({name: [(row, number) for number, row in enumerate(rows)]})

        def probes_of(first: int, last: int) -> Probes:
            batches = {name: probe(name, first, last).to(bench.device) for name in tasks}
            return Probes(batches, losses, interval, bench.device)

        small, large = probes_of(0, SMALL), probes_of(SMALL, SMALL + full)
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
        started = time.perf_counter()
        small.measure(bench.model, tasks)
        round_seconds = time.perf_counter() - started
    later = [np.concatenate(found[step // 3 :]) for found in shares]
    return float(spearmanr(*later).statistic), step, round_seconds


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
    share, step_seconds = probe_share(settings, 0.4 * given.seconds)
    progress(f"probes took {100 * share:.1f}% of the steps")
    correlation, steps, round_seconds = rank_correlation(settings, 0.6 * given.seconds, given.full, given.interval)
    each = round_seconds / ProbeOptions().interval
    ratios = {
        "probe_share": share,
        "probe_share_uncapped": each / (each + step_seconds) if step_seconds else 1.0,
        "rank_correlation": correlation,
    }
    return finish(ratios, MARKS, given, steps=steps)


if __name__ == "__main__":
    sys.exit(main())
