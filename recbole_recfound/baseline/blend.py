"""Blends: the scores of two models of a table added up, with a weight from validation."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from recbole.data.interaction import Interaction

from recbole_recfound.config.configurator import Config
from recbole_recfound.data.split.protocol import Splits
from recbole_recfound.evaluation.by_user import TOPK, metric_by_user, users_of
from recbole_recfound.evaluation.rankings import rank_all

WEIGHTS = (0.1, 0.25, 0.5, 1.0, 2.0)
"""Weights of the second model that validation chooses from; 0 is the first model alone."""


@dataclass(frozen=True)
class Scorer:
    """A trained model with its data.

    Attributes:
        splits: its data, whose loaders give what it reads.
        scores: interaction -> scores of all items, float32 [B, num_items].
    """

    splits: Splits
    scores: Callable[[Interaction], torch.Tensor]

    @classmethod
    def of(cls, splits: Splits, model: Any) -> Scorer:
        """Return the scorer of a model with RecBole's `full_sort_predict`, or else `predict`.

        Args:
            splits: its data.
            model: in eval.
        """

        def scores(interaction: Interaction) -> torch.Tensor:
            rows = interaction.to(splits.config["device"])
            try:
                found = model.full_sort_predict(rows)
            except NotImplementedError:  # of models that score pairs alone, such as NeuMF
                items = splits.train_set.get_item_feature().to(splits.config["device"])
                found = torch.cat([pairs(rows[place : place + 1], items) for place in range(len(rows))])
            return found.view(len(interaction), -1).float().cpu()

        def pairs(row: Interaction, items: Interaction) -> torch.Tensor:
            batch = row.repeat_interleave(len(items))
            batch.update(items)
            return model.predict(batch).flatten()

        return cls(splits, scores)


@dataclass(frozen=True)
class Blend:
    """What a blend reaches.

    Attributes:
        weight: of the second model.
        valid: metrics of the validation part.
        test: of the test part.
        by_user: the metric that chooses, of each test user.
    """

    weight: float
    valid: dict[str, float]
    test: dict[str, float]
    by_user: list[float]


def blend(first: Scorer, second: Scorer) -> Blend | None:
    """Choose the weight of the second model on validation, and score the blend on the test part.

    Scores are standardised for each user, so that a weight means the same for all.

    Args:
        first: the model that stands for weight 1; its loaders give the rows and the masks.
        second: a model with the same held-out rows; its own loaders give what it reads of a user.

    Returns:
        The blend, or None where validation prefers the first model alone.
    """
    validated = {weight: metrics for weight, (metrics, _) in _rank(first, second, "valid", (0.0, *WEIGHTS)).items()}
    best = best_weight(first.splits.config, validated)
    if not best:
        return None
    tested, by_user = _rank(first, second, "test", [best])[best]
    return Blend(best, validated[best], tested, by_user)


def best_weight(config: Config, validated: Mapping[float, Mapping[str, float]]) -> float:
    """Return the weight that validation prefers, of equal ones the first.

    Args:
        config: gives the metric that chooses.
        validated: metrics of the validation part by weight; 0 is the first model alone.
    """
    metric, sign = config["valid_metric"].lower(), 1 if config["valid_metric_bigger"] else -1
    return max(validated, key=lambda weight: sign * validated[weight][metric])


def standardised(scores: torch.Tensor) -> torch.Tensor:
    """Return the scores of each user with mean 0 and deviation 1 over the items.

    Args:
        scores: [B, num_items]; column 0 is padding.
    """
    mean, deviation = scores[:, 1:].mean(1, keepdim=True), scores[:, 1:].std(1, correction=0, keepdim=True)
    return (scores - mean) / deviation.clamp(min=1e-12)


def _rank(
    first: Scorer, second: Scorer, part: str, weights: Sequence[float]
) -> dict[float, tuple[dict[str, float], list[float]]]:
    """Return metrics and the metric of each user by weight, in one pass over the rows of a held-out part."""
    config = first.splits.config
    loader, own = (getattr(scorer.splits, f"{part}_data") for scorer in (first, second))

    def blends(interaction: Interaction) -> Iterator[torch.Tensor]:
        # Histories and features of users are those of each model's own loader, as in its own row of the table.
        rows = own.rows_of(interaction[own.uid_field])
        scores = [standardised(first.scores(interaction)), standardised(second.scores(rows))]
        for weight in weights:
            yield scores[0] + weight * scores[1]

    users = users_of(loader)
    return {
        weight: (metrics, metric_by_user(data.get(TOPK), config["valid_metric"], config["topk"], users))
        for weight, (metrics, data) in zip(weights, rank_all(first.splits, loader, blends), strict=True)
    }
