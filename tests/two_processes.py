"""Work of two processes in tests: `torchrun --nproc_per_node 2 -m tests.two_processes JOBS FOLDER`.

Each job is a run, or `gradients`: those of the first batches, without a training.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import torch
from torch.distributed.tensor import DTensor

from recbole_recfound.data.task import TASKS
from recbole_recfound.quick_start import run_recfound
from recbole_recfound.runtime import exchange
from recbole_recfound.runtime.ranks import is_main, rank, shards
from recbole_recfound.runtime.signals import Interrupted
from recbole_recfound.trainer.accelerator import build_accelerator
from recbole_recfound.trainer.kernels import KernelTrainer
from recbole_recfound.trainer.recfound import RecFoundTrainer
from tests.small_model import build_small


def launch(checkout: Path, *arguments: str, processes: int = 2, **variables: str) -> subprocess.CompletedProcess:
    """Start a program on several processes, as `accelerate launch` does."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={processes}"]
    environment = os.environ | {"PYTHONPATH": str(checkout), "OMP_NUM_THREADS": "1"} | variables
    return subprocess.run([*command, *arguments], env=environment, cwd=checkout, capture_output=True, text=True)


def gradients(settings: dict, batches: int = 4) -> list[dict[str, torch.Tensor]]:
    """Gradients and losses of the first batches, which all kinds of tasks are in."""
    small = build_small(settings)
    trainer = RecFoundTrainer(small.config, small.model, accelerator=build_accelerator(small.config))
    trainer.loader = small.loader
    small.model.refresh_items()
    small.model.train()
    seen, kinds = [], set()
    for _ in range(batches):
        batch = small.loader.next_batch()
        kinds |= {TASKS[part.tasks[0]].kind for part in batch.parts}
        losses = trainer._backward(batch)
        found = {name: weight.grad for name, weight in small.model.named_parameters() if weight.grad is not None}
        seen.append(found | {f"loss {name}": torch.tensor(loss) for name, loss in losses.items()})
        small.model.zero_grad()
    assert len(kinds) == 2, kinds
    frozen = [weight for weight in small.model.backbone.parameters() if isinstance(weight, DTensor)]
    assert bool(frozen) == shards() and not any(weight.requires_grad for weight in frozen)
    assert all(2 * weight.to_local().numel() <= weight.numel() + weight.shape[-1] for weight in frozen)
    return seen


def gathered(rows: int) -> torch.Tensor:
    """Gradient of a loss over the rows of all processes, in their global order."""
    table = torch.linspace(-1, 1, rows * 3).view(rows, 3).requires_grad_()
    share = exchange.Share.of(rows)
    found = exchange.gather_rows(table[share.index], rows)
    loss = (found @ found.T).softmax(-1)[share.index].square().sum() * bool(share.count)
    loss.backward()
    return exchange.total(table.grad)


def main(jobs: Path, folder: Path) -> None:
    """Do all jobs; each process stands in a folder of its own, so that what it writes there can be seen."""
    exchange.start(torch.device("cpu"))
    own = folder / f"process{rank()}"
    own.mkdir()
    os.chdir(own)
    for name, (model, dataset, settings) in json.loads(jobs.read_text()).items():
        if name == "gradients":
            found = gradients(settings)
        elif name == "gathered":
            found = {rows: gathered(rows) for rows in (1, 2, 5)}
        else:
            found = run_recfound(model, dataset, config_dict=settings)
        if is_main():
            torch.save(found, folder / f"{name}.pt")
    exchange.end()


def die_at(step: int, number: int) -> None:
    """Let the second process send itself a signal before it makes a step."""
    backward = RecFoundTrainer._backward

    def dying(self, batch):
        if self.step == step and rank() == 1:
            os.kill(os.getpid(), number)
        return backward(self, batch)

    RecFoundTrainer._backward = dying
    make_step, steps = KernelTrainer._step, []

    def dying_step(self, *given, **named):
        steps.append(1)
        if len(steps) == step + 1 and rank() == 1:
            os.kill(os.getpid(), number)
        return make_step(self, *given, **named)

    KernelTrainer._step = dying_step


if __name__ == "__main__":
    if len(sys.argv) > 3:
        die_at(int(sys.argv[3]), getattr(signal, sys.argv[4]))
    try:
        main(Path(sys.argv[1]), Path(sys.argv[2]))
    except Interrupted as error:
        print(f"process {rank()}: {error}; {error.exit_code}", file=sys.stderr, flush=True)
        sys.exit(error.exit_code)
