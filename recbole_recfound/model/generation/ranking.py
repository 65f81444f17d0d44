"""Ranking of items by the likelihood of their titles after a user's history."""

from typing import Any

import numpy as np
import torch
from recbole.data.interaction import Interaction

from recbole_recfound.data import Collator
from recbole_recfound.data.task import GenerativeExample
from recbole_recfound.model.generation.likelihood import log_likelihoods


class GenerativeRanking:
    """Score items for RecBole's evaluator by the likelihood of their titles under the route and prompt of SR.

    A catalogue of up to `candidates` items is scored whole. Of a larger one the best `candidates` of the embedding
    ranking are reranked; all others follow in their previous order.

    Args:
        model: RecFound, trained with `task_args: {SR: {form: title}}`.
        collator: makes the prompts of SR.
        candidates: items ranked for each user.
    """

    def __init__(self, model: Any, collator: Collator, candidates: int) -> None:
        self.model = model
        self.collator = collator
        self.candidates = candidates
        self.item_ids = model.history.source.item_ids
        self.history_titles = model.parts.data.tasks["SR"].options.history_titles
        self.titles = collator.texts.titles_by(self.item_ids.index_of_id)

    @torch.no_grad()
    def __call__(self, interaction: Interaction, scores: torch.Tensor) -> torch.Tensor:
        """Put the likelihoods into the scores of the embedding ranking.

        Args:
            interaction: with the histories in RecBole's sequential fields.
            scores: [B, num_items] cosines; changed in place.

        Returns:
            `scores`.
        """
        model = self.model
        histories, lengths = interaction[model.history_field].tolist(), interaction[model.length_field].tolist()
        for row, (history, length) in enumerate(zip(histories, lengths, strict=True)):
            left = scores[row].clone()
            if model.masks_history:
                left[history[:length]] = -torch.inf  # masked by the evaluation: they would waste candidates
            chosen = self._chosen(left)
            likely = self._likelihoods(history[:length], chosen)
            # Cosines are at most 1: reranked items get 2 to 3, above all others, by their places: in single precision
            # the likelihoods of long titles would be equal.
            likely = likely.where(~likely.isnan(), -torch.inf)  # NaN would be sorted behind the likeliest
            places = 1 + torch.unique(likely, return_inverse=True)[1]
            scores[row, torch.from_numpy(chosen).to(scores.device)] = 2.0 + (places / len(places)).to(scores)
        return scores

    def _chosen(self, scores: torch.Tensor) -> np.ndarray:
        if self.model.n_items - 1 <= self.candidates:
            return np.arange(1, self.model.n_items)
        return scores[1:].topk(self.candidates).indices.cpu().numpy() + 1

    def _likelihoods(self, history: list[int], items: np.ndarray) -> torch.Tensor:
        """Return the log-likelihood of each item's title after a history; equal titles are scored once."""
        shown = self.item_ids.to_catalogue(history[-self.history_titles :])
        prompt = self.collator.prompt("SR", GenerativeExample({"history": ("titles", tuple(shown.tolist()))}, ""))
        distinct: dict[bytes, int] = {}
        place = [distinct.setdefault(self.titles[item].tobytes(), len(distinct)) for item in items]
        texts = [np.frombuffer(key, dtype=self.titles[items[0]].dtype) for key in distinct]
        end = self.collator.tokenizer.eos_token_id
        likely = log_likelihoods(self.model.backbone, prompt, texts, "SR", end)
        return likely[place]
