"""Blends: the scores of two models of a table added up, with a weight from validation."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from recbole.data.interaction import Interaction

from recbole_recfound.config.configurator import Config
from recbole_recfound.data.split.protocol import Splits, further_tests
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
        others: metrics of the rankings besides the table's own, see `further_tests`.
    """

    weight: float
    valid: dict[str, float]
    test: dict[str, float]
    by_user: list[float]
    others: dict[str, dict[str, float]] = field(default_factory=dict)


def blend(first: Scorer, second: Scorer) -> Blend | None:
    """Choose the weight of the second model on validation, and score the blend on the test part.

    Scores are standardised for each user, so that a weight means the same for all.

    Args:
        first: the model that stands for weight 1; its loaders give the rows and the masks.
        second: a model with the same held-out rows; its own loaders give what it reads of a user.

    Returns:
        The blend, or None where validation prefers the first model alone.
    """
    splits, own = first.splits, second.splits
    tried = _rank(first, second, splits.valid_data, own.valid_data, (0.0, *WEIGHTS))
    validated = {weight: metrics for weight, (metrics, _) in tried.items()}
    best = best_weight(splits.config, validated)
    if not best:
        return None

    def test(loader: Any) -> tuple[dict[str, float], list[float]]:
        return _rank(first, second, loader, own.test_data, [best])[best]

    others = {name: test(loader)[0] for name, loader in further_tests(splits).items()}
    return Blend(best, validated[best], *test(splits.test_data), others)


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
    first: Scorer, second: Scorer, loader: Any, own: Any, weights: Sequence[float]
) -> dict[float, tuple[dict[str, float], list[float]]]:
    """Return metrics and the metric of each user by weight, in one pass over the rows of a held-out part.

    Args:
        first: the model that stands for weight 1.
        second: the other model.
        loader: of the first model; gives the rows and what is masked.
        own: of the second model, with the same rows.
        weights: of the second model.
    """
    config = first.splits.config

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
