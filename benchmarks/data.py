"""What reading and collating costs.

    python -m benchmarks.data --json data.json

Ratios:
    loader_over_step  examples a second of the loader over those of a training step (all tasks, ml-100k)
    startup_seconds   from the start of a process to the end of its first training step on ml-100k, the backbone
                      converted before; encoding the texts of the items is not part of it
"""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.frame import Mark, finish, in_turn, options, progress
from benchmarks.prepared import Prepared, precision_of
from recbole_recfound.backbone import BUNDLED

MARKS = {"loader_over_step": Mark(20, least=True), "startup_seconds": Mark(10)}
START = """
import sys
from tempfile import TemporaryDirectory
from recbole_recfound.trainer.recfound import RecFoundTrainer
RecFoundTrainer.refresh_items = lambda self: self.model.item_table.features.normal_()
from benchmarks.prepared import Prepared
with TemporaryDirectory() as folder:
    bench = Prepared("ml-100k", folder, {"backbone": sys.argv[1], "precision": sys.argv[2]})
    bench.step(bench.loader.next_batch())
"""


def startup(backbone: str, precision: str) -> float:
    """Return the seconds of a process until its first step is done."""
    started = time.perf_counter()
    root = Path(__file__).parent.parent
    command = [sys.executable, "-c", START, backbone, precision]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"startup: {done.stderr.strip().splitlines()[-1]}")
    return time.perf_counter() - started


def main(argv: list[str] | None = None) -> int:
    """Measure, print, write; 1 if a mark is missed."""
    given = options(
        __doc__,
        argv,
        120.0,
        steps=(24, 6, "steps of a round"),
        backbone=(BUNDLED, BUNDLED, "causal LM"),
    )
    precision = precision_of(given.dtype)
    with TemporaryDirectory() as folder:
        bench = Prepared("ml-100k", folder, {"backbone": given.backbone, "precision": precision})
        batches = [bench.loader.next_batch() for _ in range(given.steps)]
        sides = {
            "loader": lambda: [bench.loader.next_batch() for _ in range(given.steps)],
            "step": lambda: [bench.step(batch) for batch in batches],
        }
        times = in_turn(sides, bench.device, given.seconds, least=2)
    progress("start-up")
    seconds = min(startup(given.backbone, precision) for _ in range(1 if given.quick else 2))
    ratios = {"loader_over_step": times.ratio("step", "loader"), "startup_seconds": seconds}
    return finish(ratios, MARKS, given, seconds=times.medians())


if __name__ == "__main__":
    sys.exit(main())
