"""Retrieval by two towers on one backbone: users and items are vectors, and no item has an id."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from typing import ClassVar

import numpy as np
import torch
from recbole.data.interaction import Interaction
from recbole.utils import InputType, ModelType
from torch import nn
from torch.nn import functional as F

from recbole_recfound.backbone import full_precision
from recbole_recfound.backbone.segments import MEAN as MEAN_STATE
from recbole_recfound.config.configurator import Config
from recbole_recfound.data.behaviour import Pack, Source
from recbole_recfound.data.behaviour.dataset import ROW, BehaviourDataset
from recbole_recfound.data.behaviour.segments import CANDIDATE, END, PAST, TIME
from recbole_recfound.data.padding import pad_flat
from recbole_recfound.data.text.catalogue import Catalogue
from recbole_recfound.errors import DataError
from recbole_recfound.model.late import MEAN
from recbole_recfound.model.m6rec import Example, M6Rec, OptionNames, register_task
from recbole_recfound.model.m6rec_options import RetrievalOptions
from recbole_recfound.model.reading.base import SegmentModel
from recbole_recfound.model.recent_items import RecentItems
from recbole_recfound.model.whitening import whitening

STATES = 3
"""States of a user."""
ITEMS, USERS = 512, 128
"""Items and users that are read at a time."""
FITTED, FIT_RATE, FIT_DROPOUT = 256, 3e-3, 0.1
"""Sources of a step, learning rate and dropout on the states when the linear maps are fitted before training."""
READING_SHARE = 0.7
"""Part of the time before training in which states are read; the rest is for fitting the maps."""
LEAST_SPREAD = 1e-6


@register_task("retrieval")
class RetrievalModel(SegmentModel):
    """A user's vector is that of the next item; see `SegmentModel` for the arguments.

    An item is read behind one line that is the same for all, so that the catalogue is one pack. A user is the states of
    a closing line, of the chosen items together and of the latest one; the vectors of the latest items are added to
    what a linear map makes of these states. A score is the cosine of both vectors, divided by the temperature, plus
    what the item's text alone says about how often it is chosen: cosines cannot say it.

    Attributes:
        of_user: linear map of a user's three states to a vector.
        recent: adds the vectors of the user's last items.
        of_item: linear map of an item's state to a vector.
        appeal: linear map of an item's state to what is added to its scores.
        center, spread: [4, d], mean and standard deviation of these states before training, the item's last.
    """

    type = ModelType.GENERAL
    input_type = InputType.PAIRWISE
    modes = ("full",)
    reads: ClassVar[OptionNames] = {**SegmentModel.reads, "retrieval_args": RetrievalOptions.names()}
    behaviours = 20
    states = MEAN_STATE
    redraws = True

    center: torch.Tensor
    spread: torch.Tensor

    def __init__(self, config: Config, dataset: BehaviourDataset, beside: M6Rec | None = None) -> None:
        super().__init__(config, dataset, beside)
        self.towers = RetrievalOptions.of(config["retrieval_args"], "retrieval_args")
        self.seed = config["seed"]
        self.of_user = nn.Linear(STATES * self.width, self.towers.width, bias=False)
        self.of_item = nn.Linear(self.width, self.towers.width, bias=False)
        self.appeal = nn.Linear(self.width, 1, bias=False)
        nn.init.zeros_(self.appeal.weight)
        self.recent = RecentItems()
        self.register_buffer("center", torch.zeros(STATES + 1, self.width))
        self.register_buffer("spread", torch.ones(STATES + 1, self.width))
        rows = self.log.take(slice(0, dataset.log_sizes[0]))
        if len(rows) and np.bincount(rows.users).max() < 2:
            raise DataError(
                f"{config['dataset']}: no user has two training rows, so retrieval has no history with a next item: "
                "another split (eval_args) leaves users more"
            )
        # What nobody has chosen yet is no negative: nothing is known against it.
        self.chosen = np.unique(rows.items)
        order = np.argsort(rows.users, kind="stable")  # rows are in the order of time
        self._items = rows.items[order]
        self._starts = np.searchsorted(rows.users[order], np.arange(dataset.user_num + 1))
        self.to(self.device)
        self._dropout = 0.0
        self._table: tuple[list[int], torch.Tensor] | None = None

    # Vectors ---------------------------------------------------------------------------------------------------------

    @property
    def behind(self) -> int:
        """One: the closing line of a user, or an item."""
        return 1

    def user_states(self, sources: Sequence[Source]) -> torch.Tensor:
        """Return the states of users, float32 [B, 3, d]: of the closing line, of all choices and of the latest.

        Args:
            sources: of `BehaviourTexts.source_of_choices`.
        """
        closing, kinds = np.array([[self.texts.next]]), np.array([END])
        self.use()
        packs = [Pack(source, closing, kinds) for source in sources]
        reading = self.reader.read(packs, self.texts.table.texts, self.kinds, MEAN, self.cache)
        past = (reading.layout.kinds == PAST) & reading.layout.mask
        states = self.decoder.norm(reading.sources).float()
        count = past.sum(1, keepdim=True)
        mean = (past.float()[:, None] @ states)[:, 0] / count.clamp(min=1)
        latest = states[torch.arange(len(states), device=states.device), reading.layout.lengths - 1]
        return torch.stack([reading.targets[:, 0], mean, torch.where(count > 0, latest, mean)], dim=1)

    def item_states(self, items: np.ndarray) -> torch.Tensor:
        """Return the states of items, float32 [n, d].

        Args:
            items: int64 [n] ids.
        """
        return self._text_states([self.texts.table.texts[segment] for segment in self.texts.items[items]])

    def _text_states(self, texts: Sequence[str]) -> torch.Tensor:
        """Return the states of texts of items, float32 [n, d]."""
        self.use()
        line = Source(np.array([0]), np.array([TIME]))
        pack = Pack(line, np.arange(1, len(texts) + 1)[:, None], np.array([CANDIDATE]))
        before = self.texts.table.texts[self.texts.catalogue]
        return self.reader.read([pack], [before, *texts], self.kinds, MEAN, self.cache).targets[:, 0]

    def user_vectors(self, sources: Sequence[Source]) -> torch.Tensor:
        """Return vectors of users, float32 [B, width + 1], with items as in the table; see `user_states`."""
        items = self._chosen_in(sources)
        return self._users(self.user_states(sources), sources, self.item_table()[torch.from_numpy(items)], items)

    def item_vectors(self, items: np.ndarray) -> torch.Tensor:
        """Return vectors of items, float32 [n, width + 1]; see `item_states`."""
        return self._things(self.item_states(items))

    @torch.no_grad()
    def text_vectors(self, texts: Sequence[str]) -> torch.Tensor:
        """Return vectors of items of which only a text is given, float32 [n, width + 1].

        Args:
            texts: as `title, field: value, ...`.
        """
        parts = [texts[start : start + ITEMS] for start in range(0, len(texts), ITEMS)]
        return torch.cat([self._things(self._text_states(part)) for part in parts])

    @torch.no_grad()
    def history_vectors(self, histories: Sequence[np.ndarray]) -> torch.Tensor:
        """Return vectors of users of whom only histories are given, float32 [n, width + 1].

        Args:
            histories: item ids of each, oldest first.
        """
        sources = [self.texts.source_of_choices(0, history) for history in histories]
        parts = [sources[start : start + USERS] for start in range(0, len(sources), USERS)]
        return torch.cat([self.user_vectors(part) for part in parts])

    @torch.no_grad()
    def add_items(self, ids: Sequence[int], items: Catalogue) -> None:
        """Add items; see `M6Rec.add_items`."""
        table = self.item_table()
        super().add_items(ids, items)
        if len(ids):
            wider = F.pad(table, (0, 0, 0, len(self.texts.items) - len(table)))
            wider[list(ids)] = self.item_vectors(np.array(ids))
            self._table = self._versions(), wider

    def _users(
        self, states: torch.Tensor, sources: Sequence[Source], vectors: torch.Tensor, items: np.ndarray
    ) -> torch.Tensor:
        """Map states of users [B, 3, d] to vectors, with those of `items` [n, width + 1], all choices among them."""
        normal = (states - self.center[:STATES]) / self.spread[:STATES]
        direction = F.normalize(self.of_user(F.dropout(normal, self._dropout).flatten(1)), dim=-1)
        past = [source.segments[source.kinds == PAST] for source in sources]
        lengths = np.array([len(segments) for segments in past], dtype=np.int64)
        texts = self.texts.items[items]
        by_text = np.argsort(texts)  # of items with the same text any: their vectors are equal
        places = by_text[np.searchsorted(texts[by_text], np.concatenate(past))] + 1
        places = pad_flat(places, np.cumsum(lengths) - lengths, lengths, fill=0)[0]
        direction = self.recent.of_whole(
            direction,
            F.pad(vectors[:, :-1], (0, 0, 1, 0)),
            torch.from_numpy(places).to(vectors.device),
            torch.from_numpy(lengths).to(vectors.device),
        )
        return F.pad(direction / self.towers.temperature, (0, 1), value=1.0)

    def _chosen_in(self, sources: Sequence[Source]) -> np.ndarray:
        """Return the items of sources, int64 [n], and those with the same texts."""
        return np.flatnonzero(np.isin(self.texts.items, np.concatenate([source.segments for source in sources])))

    def _things(self, states: torch.Tensor) -> torch.Tensor:
        """Map states of items [n, d] to vectors."""
        normal = F.dropout((states - self.center[STATES]) / self.spread[STATES], self._dropout)
        return torch.cat([F.normalize(self.of_item(normal), dim=-1), self.appeal(normal)], dim=-1)

    @torch.no_grad()
    def item_table(self) -> torch.Tensor:
        """Return the vectors of all items, float32 [num_items, width + 1], computed once for given weights."""
        versions = self._versions()
        if self._table is None or self._table[0] != versions:
            every = np.arange(len(self.texts.items))
            parts = [self.item_vectors(every[start : start + ITEMS]) for start in range(0, len(every), ITEMS)]
            self._table = versions, torch.cat(parts)
        return self._table[1]

    def _versions(self) -> list[int]:
        """Return the number of changes of every weight that decides vectors."""
        return [weight._version for weight in self.saved_state().values()]

    # Training --------------------------------------------------------------------------------------------------------

    def saved_state(self) -> dict[str, torch.Tensor]:
        """Return all tensors that training decides, by name."""
        return {**super().saved_state(), "center": self.center, "spread": self.spread}

    def examples(self, rows: Interaction, epoch: int = 0) -> list[Example]:
        """Return each user's choices before some place, with the next ones as targets; places differ by epoch.

        See `M6Rec.examples`.
        """
        generator = np.random.default_rng([self.seed, epoch, 0x2E7])
        users = np.unique(self.log.users[rows[ROW].cpu().numpy()])
        found, size = [], self.towers.targets
        for user in users:
            items = self._items[self._starts[user] : self._starts[user + 1]]
            first = int(generator.integers(1, size + 1))
            for place in dict.fromkeys([min(first, len(items) - 1), *range(first, len(items), size)]):
                if place < 1:
                    continue
                source = self.texts.source_of_choices(int(user), items[:place])
                targets = np.unique(items[place : place + size])
                found.append(Example(Pack(source, self.texts.items[targets][:, None], np.array([CANDIDATE])), targets))
        return found

    def loss_of(self, examples: Sequence[Example]) -> torch.Tensor:
        """Return the mean cross-entropy of finding each target among items that are not in its source (InfoNCE).

        See `M6Rec.loss_of`.
        """
        answers = np.concatenate([example.answers for example in examples])
        candidates = np.unique(np.concatenate([answers, self._drawn()]))
        sources = [example.pack.source for example in examples]
        items = np.union1d(candidates, self._chosen_in(sources))
        vectors = self.item_vectors(items)
        users = self._users(self.user_states(sources), sources, vectors, items)
        own = torch.from_numpy(np.searchsorted(items, candidates)).to(vectors.device)
        return self._loss(users, vectors[own], examples, candidates)

    def _loss(
        self, users: torch.Tensor, items: torch.Tensor, examples: Sequence[Example], candidates: np.ndarray
    ) -> torch.Tensor:
        """Return the loss of users [B, width + 1] and candidates [C, width + 1]."""
        logits = users @ items.T
        of_row = np.repeat(np.arange(len(examples)), [len(example) for example in examples])
        place = np.searchsorted(candidates, np.concatenate([example.answers for example in examples]))
        own = torch.from_numpy(place).to(logits.device)
        source = torch.from_numpy(of_row).to(logits.device)
        right = self._right(examples, candidates).to(logits.device)
        rest = torch.logsumexp(logits.masked_fill(right, -torch.inf), dim=1)[source]
        positive = logits[source, own]
        return (torch.logaddexp(positive, rest) - positive).mean()

    def _drawn(self) -> np.ndarray:
        """Return items that are candidates besides those of a batch."""
        if self.towers.negatives >= len(self.chosen):
            return self.chosen
        drawn = torch.randint(len(self.chosen), (self.towers.negatives,))
        return self.chosen[drawn.numpy()]

    def _right(self, examples: Sequence[Example], candidates: np.ndarray) -> torch.Tensor:
        """Return which candidates are no negatives of a source, bool [B, C]: texts that stand in it or are a target.

        Items of one text are one item to this model.
        """
        texts = self.texts.items
        known = [np.append(example.pack.source.segments, texts[example.answers]) for example in examples]
        return torch.from_numpy(np.stack([np.isin(texts[candidates], own) for own in known]))

    def prepare(self, batches: Sequence[Sequence[Example]], seconds: float) -> Iterator[int]:
        """Yield two starts: the likeness of texts, and linear maps fitted to the states of the untrained model.

        Linear maps on states that are computed once are trained a thousand times faster than what lies below them. On
        sparse data they learn less than the likeness of texts says; see `SegmentModel.prepare`.
        """
        if not self.towers.start_epochs:
            return
        self.eval()
        started = time.monotonic()
        users, examples = self._states_of(batches, started + READING_SHARE * seconds)
        if not examples:
            return
        parts = range(0, len(self.chosen), ITEMS)
        with torch.no_grad():
            items = torch.cat([self.item_states(self.chosen[start : start + ITEMS]) for start in parts])
            self.center.copy_(torch.cat([users.mean(0), items.mean(0)[None]]))
            spread = torch.cat([users.std(0, correction=0), items.std(0, correction=0)[None]])
            self.spread.copy_(spread.clamp(min=LEAST_SPREAD))
        self._place(items)
        yield len(self.chosen)
        self._fit(users, items, examples, started + seconds)
        yield sum(map(len, examples))

    @torch.no_grad()
    def _states_of(self, batches: Sequence[Sequence[Example]], deadline: float) -> tuple[torch.Tensor, list[Example]]:
        """Return the states of users and the examples they belong to, as many as there is time for."""
        users: list[torch.Tensor] = []
        examples: list[Example] = []
        for batch in batches:
            if time.monotonic() >= deadline:
                break
            users.append(self.user_states([example.pack.source for example in batch]))
            examples += batch
        return torch.cat(users) if users else torch.zeros(0, STATES, self.width), examples

    @torch.no_grad()
    def _place(self, items: torch.Tensor) -> None:
        """Start both maps from the directions in which items differ most, whitened: a user is near its own items."""
        normal = (items - self.center[STATES]) / self.spread[STATES]
        size = min(self.towers.width, *normal.shape)
        directions = torch.linalg.svd(normal, full_matrices=False)[2]
        start = torch.zeros_like(self.of_item.weight)
        start[:size] = directions[:size] @ whitening(normal)
        self.appeal.weight.zero_()
        self.of_item.weight.copy_(start)
        self.of_user.weight.copy_(torch.cat([torch.zeros_like(start), start / 2, start / 2], dim=1))

    def _fit(self, users: torch.Tensor, items: torch.Tensor, examples: list[Example], deadline: float) -> None:
        """Train the maps on given states, with a rate that falls to 0."""
        weights = [self.of_user.weight, self.of_item.weight, self.appeal.weight, *self.recent.parameters()]
        optimizer = torch.optim.Adam(weights, lr=FIT_RATE)
        generator = np.random.default_rng([self.seed, 0x2E8])
        begin, self._dropout = time.monotonic(), FIT_DROPOUT
        for epoch in range(self.towers.start_epochs):
            passed = (time.monotonic() - begin) / max(deadline - begin, 1e-9)
            done = max(epoch / self.towers.start_epochs, passed)
            if done >= 1.0:
                break
            order = generator.permutation(len(examples))
            for start in range(0, len(order), FITTED):
                rows = order[start : start + FITTED]
                batch, vectors = [examples[row] for row in rows], self._things(items)
                sources = [example.pack.source for example in batch]
                found = self._users(users[torch.from_numpy(rows)], sources, vectors, self.chosen)
                loss = self._loss(found, vectors, batch, self.chosen)
                optimizer.zero_grad(set_to_none=True)
                loss.backward()
                for group in optimizer.param_groups:
                    group["lr"] = FIT_RATE * (1.0 - done)
                optimizer.step()
        self._dropout = 0.0

    # Scoring ---------------------------------------------------------------------------------------------------------

    def requests(self, rows: Sequence[Interaction]) -> set[int]:
        """Return the segments of all items and users; see `SegmentModel.requests`."""
        both = np.concatenate([self.texts.items, self.texts.profiles])
        return {*both.tolist(), self.texts.next, self.texts.catalogue}

    @torch.no_grad()
    def full_sort_predict(self, interaction: Interaction) -> torch.Tensor:
        """Return the scores of all items for each user, flattened as RecBole expects.

        Args:
            interaction: users with their histories in RecBole's sequential fields.
        """
        with full_precision(self.device):
            return (self._users_of(interaction) @ self.item_table().T).reshape(-1)

    @torch.no_grad()
    def predict(self, interaction: Interaction) -> torch.Tensor:
        """Return the score of each (user, item) row, float32 [B]."""
        return (self._users_of(interaction) * self.item_table()[interaction[self.item_field]]).sum(-1)

    def _users_of(self, interaction: Interaction) -> torch.Tensor:
        """Return the vectors of the users of a batch, float32 [B, width + 1]."""
        names, length = self.history_fields
        users = interaction[self.user_field].cpu().numpy()
        histories = interaction[names].cpu().numpy()
        lengths = interaction[length].cpu().numpy()
        sources = [
            self.texts.source_of_choices(int(user), history[:size])
            for user, history, size in zip(users, histories, lengths, strict=True)
        ]
        parts = [self.user_vectors(sources[start : start + USERS]) for start in range(0, len(sources), USERS)]
        return torch.cat(parts)
