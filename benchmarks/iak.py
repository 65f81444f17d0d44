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

import sys
from collections.abc import Mapping

import torch
from recbole.data.interaction import Interaction
from recbole.model.sequential_recommender import SASRec

import recbole_recfound  # noqa: F401  (repairs RecBole)
from benchmarks.frame import Mark, Ratios, finish, in_turn, options
from recbole_recfound.config.property_files import read_settings
from recbole_recfound.data.domain import LookupDomains
from recbole_recfound.model.iak import DOMAIN_FIELD, IAK
from recbole_recfound.model.kernel import IAKKernelBank, Kernels, default_sizes
from recbole_recfound.model.pretrained import Attachment, family_of
from recbole_recfound.runtime.locations import recbole_dir

MARKS = {"bank_over_base": Mark(1.1), "bank_over_loop": Mark(0.5)}


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


def measure(
    device: torch.device, rows: int, domains: int, items: int, length: int, seconds: float
) -> tuple[Ratios, Mapping[str, float]]:
    """Return all ratios, and the seconds behind them."""
    torch.manual_seed(0)
    base = sasrec(items, length, device)
    width = base.hidden_size
    bank = IAKKernelBank(domains, width, *default_sizes(width)).to(device).eval()
    for weight in bank.parameters():
        torch.nn.init.normal_(weight, std=0.05)
    of_users = LookupDomains("d", tuple(map(str, range(domains))), "user_id", (), torch.zeros(1, dtype=torch.long))
    family = family_of("SASRec", base)
    model = IAK.around(base, family, [Attachment(base, family.place)], [of_users], [Kernels([bank])]).eval()
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
        over_base = in_turn(
            {"with the bank": lambda: model.full_sort_predict(batch), "base": lambda: base.full_sort_predict(batch)},
            device,
            0.5 * seconds,
        )
        over_loop = in_turn(
            {"bank": lambda: bank(h, domain), "loop": lambda: loop(h, domain)}, device, 0.25 * seconds, most=100
        )
    training = IAKKernelBank(domains, width, *default_sizes(width), stochastic=False).to(device)
    own_loop = OneKernel(training)
    backward = in_turn(
        {
            "bank, backward": lambda: training(h, domain).square().sum().backward(),
            "loop, backward": lambda: own_loop(h, domain).square().sum().backward(),
        },
        device,
        0.25 * seconds,
        most=100,
    )
    ratios: Ratios = {
        "bank_over_base": over_base.ratio("with the bank", "base"),
        "bank_over_loop": over_loop.ratio("bank", "loop"),
        "training_over_loop": backward.ratio("bank, backward", "loop, backward"),
    }
    return ratios, over_base.medians() | over_loop.medians() | backward.medians()


def main(argv: list[str] | None = None) -> int:
    """Measure, print, write; 1 if a mark is missed."""
    given = options(
        __doc__,
        argv,
        60.0,
        rows=(256, 8, "users of a batch"),
        domains=(64, 3, "kernels in the bank"),
        items=(1683, 50, "items of the catalogue (ml-100k's)"),
        length=(50, 5, "items of a history"),
    )
    ratios, seconds = measure(given.device, given.rows, given.domains, given.items, given.length, given.seconds)
    return finish(ratios, MARKS, given, seconds=seconds)


if __name__ == "__main__":
    sys.exit(main())
