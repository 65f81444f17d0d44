"""Assignment of batch rows to domains as tensors: a look-up by id, or a rule on a column."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from recbole.data.interaction import Interaction

from recbole_recfound.atomic.missing import cells
from recbole_recfound.compat.raw_column import as_in_file

DAY = 86400


@dataclass(frozen=True)
class Domains:
    """One type of domain.

    Attributes:
        text: as typed by the user.
        names: of the domains, in their order.
        field: the column of a batch that decides the domain.
        edges: of the buckets, where the domains are buckets.
    """

    text: str
    names: tuple[str, ...]
    field: str
    edges: tuple[float, ...]

    def __len__(self) -> int:
        return len(self.names)

    def of(self, interaction: Interaction) -> torch.Tensor:
        """Return the domain of each row of a batch, int64 [B], -1 = none; a number that was filled in is none.

        Args:
            interaction: RecBole's batch; has the column `field`.
        """
        return self.of_values(cells(interaction, self.field))

    def of_values(self, values: torch.Tensor) -> torch.Tensor:
        """Return the domain of each value of the column."""
        raise NotImplementedError


@dataclass(frozen=True)
class LookupDomains(Domains):
    """Domains of users, items, or values of a token column.

    Attributes:
        table: int64 [number of ids], domain of each id, -1 = none (always so for the padding id 0).
    """

    table: torch.Tensor

    def of_values(self, values: torch.Tensor) -> torch.Tensor:
        """Return the domain of each id; see `Domains.of_values`."""
        return self.table.to(values.device)[values]


@dataclass(frozen=True)
class ColumnDomains(Domains):
    """Domains by a rule on a column of numbers.

    Attributes:
        clock: `hour`, `weekday` or `month` of a time since 1970 (UTC), or empty: buckets.
        raw_range: minimum and maximum of the column before RecBole's normalisation, or None: not normalised.
        per_second: units of time in a second.
    """

    clock: str
    raw_range: tuple[float, float] | None = None
    per_second: float = 1.0

    def of_values(self, values: torch.Tensor) -> torch.Tensor:
        """Return the domain of each number; see `Domains.of_values`."""
        numbers = as_in_file(values, self.raw_range)
        if self.clock:
            seconds = (numbers / self.per_second).nan_to_num().round().long()
            return torch.where(numbers.isfinite(), _clock(self.clock, seconds), -1)
        edges = torch.tensor(self.edges, dtype=torch.float64, device=values.device)
        found = torch.bucketize(numbers, edges, right=True)
        return torch.where(numbers.isfinite(), found, -1)


def _clock(rule: str, seconds: torch.Tensor) -> torch.Tensor:
    days = seconds.div(DAY, rounding_mode="floor")
    if rule == "hour":
        return (seconds % DAY).div(3600, rounding_mode="floor")
    if rule == "weekday":
        return (days + 3) % 7  # 1 January 1970 was a Thursday
    months = days.cpu().numpy().astype("datetime64[D]").astype("datetime64[M]").astype("int64") % 12
    return torch.from_numpy(months).to(seconds.device)
