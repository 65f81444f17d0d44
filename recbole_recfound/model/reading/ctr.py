"""The probability of a click: candidates with statistics, read behind a user's profile and behaviours."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from typing import ClassVar, NamedTuple

import numpy as np
import torch
from recbole.data.interaction import Interaction
from torch import nn
from torch.nn import functional as F

from recbole_recfound.backbone import head_of
from recbole_recfound.config.configurator import Config
from recbole_recfound.data.behaviour import Pack, Source
from recbole_recfound.data.behaviour.dataset import ROW, BehaviourDataset
from recbole_recfound.data.text import plain_tokens
from recbole_recfound.errors import BackboneError
from recbole_recfound.model.late import MEAN
from recbole_recfound.model.m6rec import Example, M6Rec, OptionNames, batches_of, register_task
from recbole_recfound.model.m6rec_options import PROMPT, LateOptions, PromptOptions
from recbole_recfound.model.probe import fit_probe
from recbole_recfound.model.reading.base import SegmentModel

WORDS = (" no", " yes")
"""Answers, by class; tuning of prompts alone classifies with the language model's vectors of them."""
TARGETS = 256
"""Candidates scored at a time."""
PROBE_BYTES = 3 << 30
"""Memory of the states that the classifier is fitted on, at most."""


class Asked(NamedTuple):
    """A pack to be scored.

    Attributes:
        places: int64 [T], row of each target in the batch.
        pack: the pack.
    """

    places: np.ndarray
    pack: Pack


@register_task("ctr")
class ClickModel(SegmentModel):
    """A click model: the classifier is the last two prompts; see `SegmentModel` for the arguments.

    Attributes:
        readers: [K, d], learned difference between the classifier of each of K classified states and the common one;
            None for a single state, as in the paper.
        center, spread: [K, d], mean and standard deviation of the classified states before training: their entries vary
            much less than they differ from 0.
    """

    modes = ("labeled",)
    reads: ClassVar[OptionNames] = {
        "option_args": PromptOptions.names(),
        "late_args": LateOptions.names(),
        "text_args": {"statistics"},
    }
    classes = 2

    readers: nn.Parameter | None
    words: torch.Tensor
    center: torch.Tensor
    spread: torch.Tensor

    def __init__(self, config: Config, dataset: BehaviourDataset, beside: M6Rec | None = None) -> None:
        super().__init__(config, dataset, beside)
        classified = len(self.texts.target_kinds) if self.late.pooling == MEAN else 1
        if self.tuning == PROMPT:
            vectors = head_of(self.lm.model).weight[self._answer_tokens()].detach().float()
            self.register_buffer("words", vectors / vectors.norm(dim=1, keepdim=True), persistent=False)
        own = nn.Parameter(torch.zeros(classified, self.width)) if classified > 1 else None
        self.register_parameter("readers", own)
        self.register_buffer("center", torch.zeros(classified, self.width))
        self.register_buffer("spread", torch.ones(classified, self.width))
        self.to(self.device)

    def _answer_tokens(self) -> list[int]:
        """Return the tokens in which the answers differ first; SentencePiece can begin both with that of a blank.

        Raises:
            BackboneError: there are none.
        """
        for pair in zip(*plain_tokens(WORDS, self.lm.tokenizer), strict=False):
            if len(set(pair)) == len(pair):
                return list(pair)
        raise BackboneError(
            f"option_args: tuning: got {PROMPT}, which classifies with the backbone's tokens of "
            f"{' and '.join(map(repr, WORDS))}, but its tokenizer reads both alike: take another tuning or backbone"
        )

    def forward(self, packs: Sequence[Pack]) -> torch.Tensor:
        """Return the logits of all targets, [N, C], by pack and target.

        Args:
            packs: sources with their targets.
        """
        states = (self.pooled(packs) - self.center) / self.spread
        logits = self._classify(states.mean(1))
        if self.readers is None:
            return logits
        own = (states * self.readers).sum(2).mean(1) / math.sqrt(self.width)
        return logits + torch.stack([-own, own], dim=1) / 2

    def _classify(self, states: torch.Tensor) -> torch.Tensor:
        """Return the logits [N, C] of states [N, d] by the classifier that the classified states share."""
        if self.tuning != PROMPT:
            return self.reader.options.classify(states)
        return states @ self.words.T / math.sqrt(self.width)

    def pooled(self, packs: Sequence[Pack]) -> torch.Tensor:
        """Return the states that are classified, float32 [N, K, d], by pack and target.

        Args:
            packs: sources with their targets.
        """
        self.use()
        return self.reader.read(packs, self.texts.table.texts, self.kinds, self.late.pooling, self.cache).targets

    def saved_state(self) -> dict[str, torch.Tensor]:
        """Return all tensors that training decides, by name."""
        return {**super().saved_state(), "center": self.center, "spread": self.spread}

    # Training --------------------------------------------------------------------------------------------------------

    def examples(self, rows: Interaction, epoch: int = 0) -> list[Example]:
        """Return packs of training rows; the source of a pack ends before its first row.

        See `M6Rec.examples`; no epoch differs from another.
        """
        places = rows[ROW].cpu().numpy()
        labels = rows[self.label_field].cpu().numpy().astype(np.int64)
        packs = self.texts.packs(self.log.users[places], self.log.times[places], self.late.targets)
        return [Example(self.pack_of(places[own]), labels[own]) for own in packs]

    def pack_of(self, rows: np.ndarray) -> Pack:
        """Return training rows of one user behind the source that ends before the first of them.

        Args:
            rows: int64 [T], places in the log, in the order of time.
        """
        source = self.texts.source(int(self.log.users[rows[0]]), float(self.log.times[rows[0]]))
        return Pack(source, self.texts.of_known[rows], self.texts.target_kinds)

    def loss_of(self, examples: Sequence[Example]) -> torch.Tensor:
        """Return the mean cross-entropy; see `M6Rec.loss_of`."""
        logits = self([example.pack for example in examples])
        answers = np.concatenate([example.answers for example in examples])
        return F.cross_entropy(logits, torch.from_numpy(answers).to(logits.device))

    def prepare(self, batches: Sequence[Sequence[Example]], seconds: float) -> Iterator[int]:
        """Fit the classifier on the states of the untrained model (see `model.probe`); see `SegmentModel.prepare`.

        Where the classifier is all that reads the last state, it changes this state much when it takes its place among
        the prompts: it is then fitted again.
        """
        self.eval()
        deadline = time.monotonic() + seconds
        if self.tuning == PROMPT and self.readers is None:  # nothing of the classifier is trained
            return
        for _ in range(2 if self.readers is None and self.reader.before[self.option_set] else 1):
            if rows := self._fit(batches, deadline):
                yield rows

    @torch.no_grad()
    def _fit(self, batches: Sequence[Sequence[Example]], deadline: float) -> int:
        """Fit the classifier on the rows wanted, as many as fit into memory and are read in time; return the number."""
        most = min(self.prompt.probe_rows, PROBE_BYTES // (4 * self.center.numel()))
        if not most:
            return 0
        labels = [np.concatenate([example.answers for example in batch]) for batch in batches]
        sizes = np.cumsum([len(each) for each in labels])
        count = int(np.searchsorted(sizes, min(most, sizes[-1]))) + 1  # batches with the rows wanted
        states = torch.empty(int(sizes[count - 1]), *self.center.shape)  # where the probe is fitted: on the CPU
        rows = 0
        for batch, size in zip(batches[:count], sizes, strict=False):
            if time.monotonic() >= deadline:
                break
            states[rows:size] = self.pooled([example.pack for example in batch])
            rows = int(size)
        probe = fit_probe(states[:rows], np.concatenate(labels)[:rows]) if rows else None
        if probe is None:
            return 0
        self.center.copy_(probe.center)
        self.spread.copy_(probe.spread)
        weight = len(self.center) * math.sqrt(self.width) * probe.weight  # see `forward`
        common = torch.zeros_like(weight[0]) if self.tuning == PROMPT else weight.mean(0)
        if self.tuning != PROMPT:
            self.reader.options.prompts()[-self.classes :] = torch.stack([-common, common]) / 2
        if self.readers is not None:
            self.readers.copy_(weight - common)
        return rows

    # Scoring ---------------------------------------------------------------------------------------------------------

    def requests(self, rows: Sequence[Interaction]) -> set[int]:
        """Return the segments that scoring rows needs; see `SegmentModel.requests`."""
        segments: set[int] = set()
        for part in rows:
            for _, pack in self.packs(part, self.late.targets):
                segments.update(pack.source.segments.tolist(), np.unique(pack.targets).tolist())
        return segments

    def predict(self, interaction: Interaction) -> torch.Tensor:
        """Return the probability of a click for each row, float32 [B].

        Args:
            interaction: RecBole's batch: rows of the data, or any pairs of users and items.
        """
        scores = torch.empty(len(interaction), dtype=torch.float32, device=self.device)
        packs = sorted(self.packs(interaction, self.late.targets), key=lambda each: len(each.pack.source.segments))
        for part in batches_of(packs, TARGETS, lambda each: len(each.places)):
            probability = self([each.pack for each in part]).float().softmax(-1)[:, 1]
            scores[torch.from_numpy(np.concatenate([each.places for each in part]))] = probability
        return scores

    def packs(self, interaction: Interaction, size: int) -> list[Asked]:
        """Return the packs of a batch to be scored.

        Args:
            interaction: RecBole's batch, see `predict`.
            size: most targets of a pack.
        """
        users = interaction[self.user_field].cpu().numpy()
        items = interaction[self.item_field].cpu().numpy()
        rows = interaction[ROW].cpu().numpy() if ROW in interaction else np.full(len(users), len(self.log))
        known = rows < self.known_rows
        targets = np.empty((len(users), len(self.texts.target_kinds)), dtype=np.int64)
        targets[known] = self.texts.of_known[rows[known]]
        targets[~known] = self.texts.of_requests(users[~known], items[~known])
        times = np.where(known, self.log.times[np.minimum(rows, len(self.log) - 1)], np.inf)
        # One source for all rows of a user and time: a row's score depends on no other row.
        sources, of_row = self._sources(interaction, users, times)
        return [
            Asked(place, Pack(sources[of_row[place[0]]], targets[place], self.texts.target_kinds))
            for place in self.texts.packs(of_row, np.zeros(len(users)), size)
        ]

    def _sources(
        self, interaction: Interaction, users: np.ndarray, times: np.ndarray
    ) -> tuple[list[Source], np.ndarray]:
        """Return the sources of a batch, and which is that of each row."""
        names, length = self.history_fields
        if names in interaction:
            histories = interaction[names].cpu().numpy()
            lengths = interaction[length].cpu().numpy()
            keys = np.concatenate([users[:, None], lengths[:, None], histories], axis=1)
            first, of_row = np.unique(keys, axis=0, return_index=True, return_inverse=True)[1:]
            return [
                self.texts.source(int(users[row]))
                if users[row]
                else self.texts.source_of_history(histories[row, : lengths[row]])
                for row in first
            ], of_row.reshape(-1)
        pairs = np.stack([users.astype(np.float64), times], axis=1)
        first, of_row = np.unique(pairs, axis=0, return_index=True, return_inverse=True)[1:]
        return [self.texts.source(int(users[row]), float(times[row])) for row in first], of_row.reshape(-1)
