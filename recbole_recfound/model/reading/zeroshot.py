"""Ranking without training: how likely the language model finds an item's title after a user's history."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from typing import Any, ClassVar, NamedTuple

import numpy as np
import torch
from recbole.data.interaction import Interaction
from recbole.utils import InputType, ModelType
from torch import nn

from recbole_recfound.adapter.build import without_adapter
from recbole_recfound.backbone.attention import shortest_window
from recbole_recfound.config.configurator import Config
from recbole_recfound.data.behaviour.dataset import ROW, BehaviourDataset
from recbole_recfound.data.behaviour.segments import NEXT, UNDESCRIBED
from recbole_recfound.data.multi_task import catalogue_of
from recbole_recfound.data.text import plain_tokens
from recbole_recfound.data.text.catalogue import Catalogue
from recbole_recfound.errors import ConfigError
from recbole_recfound.model.generation.token_scores import token_log_likelihoods
from recbole_recfound.model.m6rec import Example, M6Rec, OptionNames, register_task
from recbole_recfound.model.m6rec_options import GHOST_SCORE, MEAN_SCORE, SUM_SCORE, ZeroShotOptions
from recbole_recfound.runtime.device import choose_device, is_gpu

GHOST_TOKEN = 0.98
"""A token that is more probable is no sign of the item but of the tokens before it (D3, arXiv 2406.14900)."""
KEPT_BYTES, BYTES = 1 << 30, 40
"""Memory of the likelihoods that are kept for the other scores, and that of one title; what does not fit is read again.
The first prompts stay: the other scores ask for them in the same order."""
CHOSEN = "Items that the user has chosen:"
NO_HISTORY = f"{NEXT}\n-"
"""The prompt of no user, which is always kept."""


class Likelihoods(NamedTuple):
    """What is known of titles behind one prompt.

    Attributes:
        titles: int64 [n], ascending.
        sums: float64 [n, 4], see `ZeroShotModel._statistics`.
    """

    titles: np.ndarray
    sums: np.ndarray

    def joined(self, other: Likelihoods | None) -> Likelihoods:
        """Return these and those of other titles.

        Args:
            other: None: no others.
        """
        if other is None:
            return self
        titles = np.concatenate([self.titles, other.titles])
        order = np.argsort(titles)
        return Likelihoods(titles[order], np.concatenate([self.sums, other.sums])[order])


@register_task("zeroshot")
class ZeroShotModel(M6Rec):
    """Score items by the log-likelihood of their titles; nothing is trained. See `M6Rec` for the arguments.

    mean: over the title's tokens. sum: of all tokens. ghost: mean over the tokens that are not nearly certain. pmi: the
    mean, less `alpha` times the mean without profile and history.

    Attributes:
        score: which of the four `predict` and `full_sort_predict` return.
    """

    type = ModelType.GENERAL
    input_type = InputType.PAIRWISE
    modes = ("full", "uni", "pop")
    reads: ClassVar[OptionNames] = {"zeroshot_args": ZeroShotOptions.names()}
    behaviours = 20

    def __init__(self, config: Config, dataset: BehaviourDataset, beside: M6Rec | None = None) -> None:
        super().__init__(config, dataset, beside)
        self.options = ZeroShotOptions.of(config["zeroshot_args"], "zeroshot_args")
        self.score: str = self.options.scores[0]
        self.fake_loss = nn.Parameter(torch.zeros(1))  # RecBole's trainer needs a parameter
        catalogue = catalogue_of(config, dataset)
        tokens = [str(token) for token in dataset.field2id_token[dataset.iid_field]]
        self.titles = ["", *(_title(catalogue, catalogue.row_of[token]) for token in tokens[1:])]
        self._read_titles()
        order = np.lexsort((np.arange(len(self.log)), self.log.users))
        self._rows, self._starts = order, np.searchsorted(self.log.users[order], np.arange(dataset.user_num + 1))
        self._parts = np.cumsum([0, *dataset.log_sizes])
        """First row of each part in the log, and the number of all rows."""
        self.to(self.device)

    def _read_titles(self) -> None:
        """Tokenise each different title; nothing is known of their likelihoods."""
        cut, end = self.text.max_tokens, [self.lm.tokenizer.eos_token_id]
        distinct, self._title = np.unique(self.titles, return_inverse=True)
        self._distinct = [
            ids[:cut] or end for ids in plain_tokens([f" {title}" for title in distinct], self.lm.tokenizer)
        ]
        context = self.lm.context
        self._room = min(context, shortest_window(self.lm.model.config) or context) - max(map(len, self._distinct))
        """Most tokens of a prompt."""
        self._known: dict[str, Likelihoods] = {}
        self._kept = 0

    def read_texts(self) -> list[str]:
        """Return the titles of items, which alone are cut."""
        return list(dict.fromkeys(self.titles))

    def add_items(self, ids: Sequence[int], items: Catalogue) -> None:
        """Add items; see `M6Rec.add_items`."""
        super().add_items(ids, items)
        for row, item in enumerate(ids):
            self.titles[item : item + 1] = [_title(items, row)]
        self._read_titles()

    @classmethod
    def own_settings(cls, given: Mapping[str, Any]) -> dict[str, Any]:
        """Return the task's defaults: without a GPU a sample of users and of candidates, which takes minutes.

        Args:
            given: the user's settings.
        """
        settings = super().own_settings(given)
        try:
            gpu = is_gpu(choose_device(given.get("use_gpu"), given.get("gpu_id", "0")))
        except ConfigError:  # refused later, with all other problems
            gpu = False
        if gpu:
            return {**settings, "time_budget": 0}
        arguments = {"split": {"LS": "valid_and_test"}, "order": "TO", "group_by": "user", "mode": "uni100"}
        return {**settings, "eval_args": arguments, "test_users": 100, "time_budget": 1500}

    def examples(self, rows: Interaction, epoch: int = 0) -> list[Example]:
        """Return none: nothing is trained."""
        return []

    def loss_of(self, examples: Sequence[Example]) -> torch.Tensor:
        """Return 0: nothing is trained."""
        return self.fake_loss.sum()

    def prompt(self, user: int, items: np.ndarray) -> str:
        """Return the text before a candidate's title, with as many of the last items as the backbone's context holds.

        Args:
            user: id, 0 for an unknown user.
            items: int64 [n], the history, oldest first.

        Raises:
            ConfigError: it does not hold the user's profile.
        """
        profile = self.texts.table.texts[self.texts.profiles[user]]
        recent = [f"- {self.titles[item]}" for item in items[len(items) - min(len(items), self.texts.behaviours) :]]

        def text_from(start: int) -> str:
            lines = [CHOSEN, *recent[start:]] if recent[start:] else []
            return "\n".join([profile, *lines, NEXT, "-"])

        def fits(start: int) -> bool:
            return len(plain_tokens([text_from(start)], self.lm.tokenizer)[0]) <= self._room

        first = 0 if fits(0) else bisect_left(range(len(recent) + 1), True, key=fits)
        if first > len(recent):
            raise ConfigError(
                f"text_args: user_fields: a user's profile and a title are longer than the backbone's context: of its "
                f"prompt {self._room:,} tokens fit. Name fewer columns"
            )
        return text_from(first)

    def scores(self, prompt: str, items: np.ndarray) -> np.ndarray:
        """Return the scores of items after a prompt, float64 [n]; of equal titles one is read.

        Args:
            prompt: of `prompt`.
            items: int64 [n] ids.
        """
        total, count, rest, of_rest = self._statistics(prompt, items).T
        if self.score == SUM_SCORE:
            return total
        if self.score == GHOST_SCORE:
            return rest / np.maximum(of_rest, 1)
        mean = total / count
        if self.score == MEAN_SCORE:
            return mean
        total, count, *_ = self._statistics(NO_HISTORY, items).T
        return mean - self.options.alpha * (total / count)

    def _statistics(self, prompt: str, items: np.ndarray) -> np.ndarray:
        """Return sum and number of the log-likelihoods of all tokens, and of those that are not nearly certain, [n, 4].

        Args:
            prompt: of `prompt`.
            items: int64 [n] ids.
        """
        known = self._known.get(prompt)
        titles = np.unique(self._title[items])
        missing = titles if known is None else np.setdiff1d(titles, known.titles)
        if len(missing):
            ids = plain_tokens([prompt], self.lm.tokenizer)[0]
            with without_adapter(self.shared.reader.adapted) if self.shared.reader else nullcontext():
                likely = token_log_likelihoods(self.lm.model, ids, [self._distinct[title] for title in missing])
            rests = [tokens[tokens.exp() <= GHOST_TOKEN] for tokens in likely]
            sums = [
                (float(tokens.sum()), len(tokens), float(rest.sum()), len(rest))
                for tokens, rest in zip(likely, rests, strict=True)
            ]
            known = Likelihoods(missing, np.array(sums, dtype=np.float64)).joined(known)
            if prompt == NO_HISTORY or self._kept < KEPT_BYTES:
                self._kept += len(missing) * BYTES
                self._known[prompt] = known
        assert known is not None
        return known.sums[np.searchsorted(known.titles, self._title[items])]

    # RecBole ---------------------------------------------------------------------------------------------------------

    def predict(self, interaction: Interaction) -> torch.Tensor:
        """Return the score of each (user, item) row, float32 [B].

        Args:
            interaction: rows of the data, whose histories are the user's rows before them, or users with histories.
        """
        users = interaction[self.user_field].cpu().numpy()
        items = interaction[self.item_field].cpu().numpy()
        histories = self._histories(interaction, users)
        prompts = np.array([self.prompt(int(user), history) for user, history in zip(users, histories, strict=True)])
        scores = np.empty(len(users))
        for prompt in dict.fromkeys(prompts.tolist()):
            rows = np.flatnonzero(prompts == prompt)
            scores[rows] = self.scores(prompt, items[rows])
        return torch.from_numpy(scores).float().to(self.device)

    def full_sort_predict(self, interaction: Interaction) -> torch.Tensor:
        """Return the scores of all items for each user, flattened as RecBole expects.

        Args:
            interaction: users with their histories in RecBole's sequential fields.
        """
        users = interaction[self.user_field].cpu().numpy()
        every = np.arange(len(self.titles))
        found = [
            self.scores(self.prompt(int(user), history), every)
            for user, history in zip(users, self._histories(interaction, users), strict=True)
        ]
        return torch.from_numpy(np.concatenate(found)).float().to(self.device)

    def _histories(self, interaction: Interaction, users: np.ndarray) -> list[np.ndarray]:
        """Return the items before each row, oldest first."""
        names, length = self.history_fields
        if names in interaction:
            histories, lengths = interaction[names].cpu().numpy(), interaction[length].cpu().numpy()
            return [history[:size] for history, size in zip(histories, lengths, strict=True)]
        rows = interaction[ROW].cpu().numpy() if ROW in interaction else np.full(len(users), len(self.log))
        own = [self._rows[self._starts[user] : self._starts[user + 1]] for user in users]
        # Validation knows the training rows, the test those of both parts, and a request all rows.
        known = self._parts[np.searchsorted(self._parts, rows, side="right") - 1]
        return [self.log.items[before[before < first]] for before, first in zip(own, known, strict=True)]


def _title(catalogue: Catalogue, row: int) -> str:
    return catalogue.title_of(row) if catalogue.values[row] else UNDESCRIBED
