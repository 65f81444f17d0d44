"""Parser of domain specifications `FIELD[:RULE]`: occupation, age:25/35/45, age:quantile:4, timestamp:month."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from recbole_recfound.errors import ConfigError

CLOCK = {
    "hour": [f"{hour:02d}h" for hour in range(24)],
    "weekday": ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"],
    "month": ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"],
}
"""Rules that read a time in seconds (UTC), and the names of their domains."""

_FORMS = "FIELD, FIELD:25/35/45 (edges), FIELD:quantile:4, or TIME:hour, TIME:weekday, TIME:month"


@dataclass(frozen=True)
class DomainSpec:
    """One parsed domain specification.

    Attributes:
        text: as typed.
        field: the column.
        clock: `hour`, `weekday` or `month`, or empty.
        quantiles: number of buckets of equal size, or 0.
        edges: bucket edges as typed, or empty.
    """

    text: str
    field: str
    clock: str = ""
    quantiles: int = 0
    edges: tuple[float, ...] = ()

    @property
    def numeric(self) -> bool:
        """Whether the field's values are read as numbers."""
        return bool(self.clock or self.quantiles or self.edges)


def parse_domain(text: str) -> DomainSpec:
    """Read one domain as typed.

    Raises:
        ConfigError: not one of the forms.
    """
    field, _, rule = str(text).strip().partition(":")
    if not field:
        raise ConfigError(f"domain: {text!r} names no field; forms: {_FORMS}")
    if not rule:
        return DomainSpec(text, field)
    if rule in CLOCK:
        return DomainSpec(text, field, clock=rule)
    name, _, number = rule.partition(":")
    if name == "quantile" and number.isdecimal() and int(number) >= 2:
        return DomainSpec(text, field, quantiles=int(number))
    try:
        edges = tuple(float(edge) for edge in rule.split("/"))
    except ValueError:
        edges = ()
    if not edges or list(edges) != sorted(set(edges)) or not all(np.isfinite(edges)):
        raise ConfigError(f"domain: {text!r} has an unknown rule {rule!r}; forms: {_FORMS}")
    return DomainSpec(text, field, edges=edges)


def bucket_edges(spec: DomainSpec, values: np.ndarray) -> np.ndarray:
    """Return the edges of a numeric rule, float64; quantiles of `values` (training data only) without repetitions.

    Args:
        spec: the rule.
        values: [n] numbers of the training rows.
    """
    if spec.edges:
        return np.array(spec.edges)
    known = values[np.isfinite(values)]
    if not len(known):
        raise ConfigError(f"domain: {spec.text!r}: the field has no numbers")
    inner = np.linspace(0, 1, spec.quantiles + 1)[1:-1]
    return np.unique(np.quantile(known, inner))


def bucket_names(edges: Sequence[float]) -> list[str]:
    """Return the names of the buckets between edges; a value equal to an edge belongs to the bucket above it."""
    texts = [f"{edge:.10g}" for edge in edges]
    return [f"<{texts[0]}", *(f"{low}-{high}" for low, high in itertools.pairwise(texts)), f">={texts[-1]}"]
