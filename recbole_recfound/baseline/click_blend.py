"""Blends of click models: the logits of two models of a table averaged, with a weight from validation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from recbole.data.interaction import Interaction
from recbole.evaluator import Evaluator
from recbole.evaluator.collector import DataStruct

from recbole_recfound.baseline.blend import WEIGHTS, Blend, best_weight
from recbole_recfound.data.split.protocol import Splits
from recbole_recfound.evaluation.clicks import with_grouped_auc


@dataclass(frozen=True)
class ClickScorer:
    """A trained click model with its data.

    Attributes:
        splits: its data.
        model: in eval, with RecBole's `predict`.
    """

    splits: Splits
    model: Any
    _kept: dict[str, torch.Tensor] = field(default_factory=dict)

    def logits(self, part: str) -> torch.Tensor:
        """Return the logits of the rows of a held-out part, float64 [n], in their order; each part is scored once.

        Args:
            part: 'valid' or 'test'.
        """
        if part not in self._kept:
            device = self.splits.config["device"]
            with torch.no_grad():
                found = [
                    self.model.predict(interaction.to(device)).flatten().double().cpu()
                    for interaction, *_ in getattr(self.splits, f"{part}_data")
                ]
            # Float32 rounds sure probabilities to 0 and 1.
            self._kept[part] = torch.logit(torch.cat(found), eps=torch.finfo(torch.float32).eps)
        return self._kept[part]


def blend_clicks(first: ClickScorer, second: ClickScorer) -> Blend | None:
    """Choose the weight of the second model on validation, and score the blend on the test part.

    The logit of a blend is (first + weight * second) / (1 + weight), which stays a probability's.

    Args:
        first: the model that stands for weight 1.
        second: a model with the same held-out rows.

    Returns:
        The blend, or None where validation prefers the first model alone.
    """
    validated = _metrics(first, second, "valid", (0.0, *WEIGHTS))
    best = best_weight(first.splits.config, validated)
    if not best:
        return None
    return Blend(best, validated[best], _metrics(first, second, "test", [best])[best], [])


def _metrics(
    first: ClickScorer, second: ClickScorer, part: str, weights: Sequence[float]
) -> dict[float, dict[str, float]]:
    """Return the metrics of a held-out part by weight."""
    rows = _rows(first, part)
    for name, own in _rows(second, part).interaction.items():
        assert torch.equal(rows[name], own), f"models of a table are scored on the same {part} rows: {name}"
    return {weight: _metrics_of(first, second, part, weight, rows) for weight in weights}


def _metrics_of(
    first: ClickScorer, second: ClickScorer, part: str, weight: float, rows: Interaction
) -> dict[str, float]:
    config = first.splits.config
    logits = (first.logits(part) + weight * second.logits(part)) / (1 + weight)
    struct = DataStruct()
    struct.set("rec.score", torch.sigmoid(logits).float())
    struct.set("data.label", rows[config["LABEL_FIELD"]])
    found = {name: float(value) for name, value in Evaluator(config).evaluate(struct).items()}
    return with_grouped_auc(found, config, logits, rows[config["LABEL_FIELD"]], rows[first.splits.train_set.uid_field])


def _rows(scorer: ClickScorer, part: str) -> Interaction:
    """Return users, items and labels of a held-out part."""
    held = getattr(scorer.splits, f"{part}_set")
    names = (held.uid_field, held.iid_field, scorer.splits.config["LABEL_FIELD"])
    return Interaction({name: held.inter_feat[name] for name in names})
