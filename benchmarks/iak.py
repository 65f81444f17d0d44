"""What a bank of kernels costs beside its base, and beside a loop over domains.

    python -m benchmarks.iak --json iak.json

Every ratio is a median over pairs timed one after the other in turn, so that a slow moment hits both sides. On a CPU
one thread is used and its CPU time is counted; on another device, wall time after synchronisation.

Ratios (below 1: the bank is cheaper):
    bank_over_base      SASRec with histories of 50 and a bank of D = 64 against SASRec alone, on a mixed batch
    bank_over_loop      the bank's pass over a mixed batch against the loop over domains, one kernel after the other
    training_over_loop  the same, forward and backward
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
from recbole.data.interaction import Interaction
from recbole.model.sequential_recommender import SASRec

import recbole_recfound  # noqa: F401  (repairs RecBole)
from benchmarks.report import write_report
from recbole_recfound.config.property_files import read_settings
from recbole_recfound.data.domain import LookupDomains
from recbole_recfound.model.iak import DOMAIN_FIELD, IAK
from recbole_recfound.model.kernel import IAKKernelBank, default_sizes
from recbole_recfound.model.pretrained import Attachment, family_of
from recbole_recfound.runtime.locations import recbole_dir

MARKS = {"bank_over_base": 1.1, "bank_over_loop": 0.5}


class OneKernel:
    """The loop: every domain's rows through a bank of one, which holds that domain's weights.

    Args:
        bank: the bank to copy.
    """

    def __init__(self, bank: IAKKernelBank) -> None:
        self.kernels = []
        for number in range(bank.num_domains):
            weights = {name: weight.detach()[number] for name, weight in bank.named_parameters()}
            self.kernels.append({name: weight.clone().requires_grad_() for name, weight in weights.items()})

    def __call__(self, h: torch.Tensor, domain: torch.Tensor) -> torch.Tensor:
        """H' [B, d]."""
        of_domain = [torch.nonzero(domain == number).squeeze(1) for number in range(len(self.kernels))]
        present = [number for number, rows in enumerate(of_domain) if len(rows)]
        adapted = torch.cat([self._one(self.kernels[number], h[of_domain[number]]) for number in present])
        return h.index_copy(0, torch.cat([of_domain[number] for number in present]), adapted)

    def _one(self, kernel: dict[str, torch.Tensor], x: torch.Tensor) -> torch.Tensor:
        a = torch.addmm(kernel["encoder_bias"], x, kernel["encoder_weight"]).relu()
        z = torch.addmm(kernel["mean_bias"], a, kernel["mean_weight"])
        m = torch.addmm(kernel["decoder_bias"], z, kernel["decoder_weight"]).relu()
        change = z @ kernel["project"] + torch.addmm(kernel["output_bias"], m, kernel["output_weight"])
        return x + kernel["scale"] * change


class _Items:
    """What SASRec asks of a data set: the number of items."""

    def __init__(self, items: int) -> None:
        self.items = items

    def num(self, field: str) -> int:
        """Return the number of ids of a field."""
        return self.items


def sasrec(items: int, length: int, device: torch.device) -> SASRec:
    """SASRec with RecBole's default sizes and random weights."""
    settings = {
        setting.key: setting.value for setting in read_settings(recbole_dir() / "properties" / "model" / "SASRec.yaml")
    }
    fields = {
        "USER_ID_FIELD": "user_id",
        "ITEM_ID_FIELD": "item_id",
        "LIST_SUFFIX": "_list",
        "ITEM_LIST_LENGTH_FIELD": "item_length",
        "NEG_PREFIX": "neg_",
        "MAX_ITEM_LIST_LENGTH": length,
        "device": device,
    }
    return SASRec({**settings, **fields}, _Items(items)).to(device).eval()


def clock(device: torch.device) -> float:
    """CPU seconds of this process on a CPU, wall seconds on another device."""
    if device.type == "cpu":
        return time.process_time()
    torch.accelerator.synchronize(device)
    return time.perf_counter()


def ratio(
    one: Callable[[], object], other: Callable[[], object], repeats: int, device: torch.device
) -> tuple[float, float, float]:
    """Median ratio of the seconds of two runs, and the median seconds of each."""
    seconds: tuple[list[float], list[float]] = ([], [])
    for repeat in range(repeats + 1):
        # Every other round backwards: nobody always runs after the same neighbour.
        for number in (0, 1) if repeat % 2 else (1, 0):
            start = clock(device)
            (one, other)[number]()
            if repeat:  # the first round warms up
                seconds[number].append(clock(device) - start)
    return statistics.median(a / b for a, b in zip(*seconds, strict=True)), *map(statistics.median, seconds)


def measure(
    device: torch.device, rows: int, domains: int, items: int, length: int, repeats: int
) -> tuple[dict[str, float], dict[str, float]]:
    """All ratios, and the seconds behind them."""
    torch.manual_seed(0)
    base = sasrec(items, length, device)
    width = base.hidden_size
    bank = IAKKernelBank(domains, width, *default_sizes(width)).to(device).eval()
    for weight in bank.parameters():
        torch.nn.init.normal_(weight, std=0.05)
    of_users = LookupDomains("d", tuple(map(str, range(domains))), "user_id", (), torch.zeros(1, dtype=torch.long))
    family = family_of("SASRec", base)
    model = IAK.around(base, family, Attachment(base, family.place), [of_users], [bank]).eval()
    domain = torch.randint(0, domains, (rows,), device=device)
    batch = Interaction(
        {
            "item_id_list": torch.randint(1, items, (rows, length), device=device),
            "item_length": torch.randint(1, length + 1, (rows,), device=device),
            DOMAIN_FIELD: domain.unsqueeze(1),
        }
    )
    h, loop = torch.randn(rows, width, device=device), OneKernel(bank)
    with torch.no_grad():
        torch.testing.assert_close(bank(h, domain), loop(h, domain), rtol=1e-3, atol=1e-4)
        over_base = ratio(
            lambda: model.full_sort_predict(batch), lambda: base.full_sort_predict(batch), repeats, device
        )
        over_loop = ratio(lambda: bank(h, domain), lambda: loop(h, domain), 5 * repeats, device)
    training = IAKKernelBank(domains, width, *default_sizes(width), stochastic=False).to(device)
    own_loop = OneKernel(training)
    with_backward = ratio(
        lambda: training(h, domain).square().sum().backward(),
        lambda: own_loop(h, domain).square().sum().backward(),
        3 * repeats,
        device,
    )
    ratios = {"bank_over_base": over_base[0], "bank_over_loop": over_loop[0], "training_over_loop": with_backward[0]}
    seconds = {
        "with the bank": over_base[1],
        "base": over_base[2],
        "bank": over_loop[1],
        "loop": over_loop[2],
        "bank, backward": with_backward[1],
        "loop, backward": with_backward[2],
    }
    return ratios, seconds


def main(argv: list[str] | None = None) -> int:
    """Measure, print, write; 1 if a mark is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, help="write the ratios to this file")
    parser.add_argument("--device", type=torch.device, default=torch.get_default_device(), help="where to run")
    parser.add_argument("--rows", type=int, default=256, help="users of a batch")
    parser.add_argument("--domains", type=int, default=64, help="kernels in the bank")
    parser.add_argument("--items", type=int, default=1683, help="items of the catalogue (ml-100k's)")
    parser.add_argument("--length", type=int, default=50, help="items of a history")
    parser.add_argument("--repeats", type=int, default=15, help="timed rounds")
    options = parser.parse_args(argv)
    torch.set_num_threads(1)
    ratios, seconds = measure(
        options.device, options.rows, options.domains, options.items, options.length, options.repeats
    )
    for name, value in ratios.items():
        mark = f"  (mark: <= {MARKS[name]:.2f})" if name in MARKS else ""
        print(f"{name:20s} {value:6.3f}{mark}")
    if options.json:
        write_report(options.json, ratios, options, seconds=seconds)
    return int(any(ratios[name] > mark for name, mark in MARKS.items()))


if __name__ == "__main__":
    sys.exit(main())
