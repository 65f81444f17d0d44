"""Retrieval by two towers on one backbone: users and items are vectors, and no item has an id."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from recbole.data.interaction import Interaction
from recbole.utils import InputType, ModelType
from torch import nn
from torch.nn import functional as F

from recbole_recfound.backbone import Backbone, full_precision
from recbole_recfound.config.configurator import Config
from recbole_recfound.data.behaviour import Pack, Source
from recbole_recfound.data.behaviour.dataset import ROW, BehaviourDataset
from recbole_recfound.data.behaviour.segments import CANDIDATE, END, PAST, TIME
from recbole_recfound.model.late import MEAN
from recbole_recfound.model.m6rec import Example, M6Rec, register_task
from recbole_recfound.model.m6rec_options import RetrievalOptions
from recbole_recfound.model.reading.base import SegmentModel

ITEMS, USERS = 512, 128
"""Items and users that are read at a time."""
LEAST_SPREAD = 1e-6


@register_task("retrieval")
class RetrievalModel(SegmentModel):
    """A user's vector is that of the next item; see `SegmentModel` for the arguments.

    An item is read behind one line that is the same for all, so that the catalogue is one pack. A user is the states of
    a closing line, of the chosen items together and of the latest one.

    Attributes:
        of_user: linear map of a user's three states to a vector.
        of_item: linear map of an item's state to a vector.
        center, spread: [d], mean and standard deviation of the items' states before training.
    """

    type = ModelType.GENERAL
    input_type = InputType.PAIRWISE
    modes = ("full",)
    behaviours = 20
    redraws = True

    center: torch.Tensor
    spread: torch.Tensor

    def __init__(
        self,
        config: Config,
        dataset: BehaviourDataset,
        backbone: Backbone | None = None,
        beside: M6Rec | None = None,
    ) -> None:
        super().__init__(config, dataset, backbone, beside)
        self.towers = RetrievalOptions.of(config["retrieval_args"], "retrieval_args")
        self.seed = config["seed"]
        self.of_user = nn.Linear(3 * self.width, self.towers.width, bias=False)
        self.of_item = nn.Linear(self.width, self.towers.width, bias=False)
        self.register_buffer("center", torch.zeros(self.width))
        self.register_buffer("spread", torch.ones(self.width))
        rows = self.log.take(slice(0, dataset.log_sizes[0]))
        # What nobody has chosen yet is no negative: nothing is known against it.
        self.chosen = np.unique(rows.items)
        order = np.argsort(rows.users, kind="stable")  # rows are in the order of time
        self._items = rows.items[order]
        self._starts = np.searchsorted(rows.users[order], np.arange(dataset.user_num + 1))
        self.to(self.device)
        self._table: tuple[list[int], torch.Tensor] | None = None

    def train(self, mode: bool = True) -> RetrievalModel:
        """Switch to training or evaluation; the items' vectors are computed again."""
        super().train(mode)
        self._table = None
        return self

    # Vectors ---------------------------------------------------------------------------------------------------------

    def user_states(self, sources: Sequence[Source]) -> torch.Tensor:
        """Return the states of users, float32 [B, 3, d]: of the closing line, of all choices and of the latest.

        Args:
            sources: of `BehaviourTexts.source_of_choices`.
        """
        closing, kinds = np.array([[self.texts.next]]), np.array([END])
        self.use()
        packs = [Pack(source, closing, kinds) for source in sources]
        reading = self.reader.read(packs, self.texts.table.texts, self.kinds, MEAN)
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
        self.use()
        line = Source(np.array([self.texts.catalogue]), np.array([TIME]))
        pack = Pack(line, self.texts.items[items][:, None], np.array([CANDIDATE]))
        return self.reader.read([pack], self.texts.table.texts, self.kinds, MEAN).targets[:, 0]

    def user_vectors(self, sources: Sequence[Source]) -> torch.Tensor:
        """Return unit vectors of users, float32 [B, width]; see `user_states`."""
        states = (self.user_states(sources) - self.center) / self.spread
        return F.normalize(self.of_user(states.flatten(1)), dim=-1)

    def item_vectors(self, items: np.ndarray) -> torch.Tensor:
        """Return unit vectors of items, float32 [n, width]; see `item_states`."""
        return F.normalize(self.of_item((self.item_states(items) - self.center) / self.spread), dim=-1)

    @torch.no_grad()
    def item_table(self) -> torch.Tensor:
        """Return the vectors of all items, float32 [num_items, width], computed once for given weights."""
        versions = [weight._version for weight in self.saved_state().values()]
        if self._table is None or self._table[0] != versions:
            every = np.arange(len(self.texts.items))
            parts = [self.item_vectors(every[start : start + ITEMS]) for start in range(0, len(every), ITEMS)]
            self._table = versions, torch.cat(parts)
        return self._table[1]

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
        """Return the mean cross-entropy of finding each target among items that its user has not chosen (InfoNCE).

        See `M6Rec.loss_of`.
        """
        answers = np.concatenate([example.answers for example in examples])
        candidates = np.unique(np.concatenate([answers, self._drawn()]))
        users = self.user_vectors([example.pack.source for example in examples])
        items = self.item_vectors(candidates)
        logits = users @ items.T / self.towers.temperature
        of_row = np.repeat(np.arange(len(examples)), [len(example) for example in examples])
        place = np.searchsorted(candidates, answers)
        own = torch.from_numpy(place).to(logits.device)
        source = torch.from_numpy(of_row).to(logits.device)
        # The other targets of a source are right as well, and what was chosen before is no candidate.
        right = torch.zeros(logits.shape, dtype=torch.bool, device=logits.device)
        right[source, own] = True
        others = logits.masked_fill(right | self._before(examples, candidates).to(logits.device), -torch.inf)
        rest = torch.logsumexp(others, dim=1)[source]
        positive = logits[source, own]
        return (torch.logaddexp(positive, rest) - positive).mean()

    def _drawn(self) -> np.ndarray:
        """Return items that are candidates besides those of a batch."""
        if self.towers.negatives >= len(self.chosen):
            return self.chosen
        drawn = torch.randint(len(self.chosen), (self.towers.negatives,))
        return self.chosen[drawn.numpy()]

    def _before(self, examples: Sequence[Example], candidates: np.ndarray) -> torch.Tensor:
        """Return which candidates are texts in a user's source, bool [B, C]."""
        texts = self.texts.items[candidates]
        return torch.from_numpy(np.stack([np.isin(texts, example.pack.source.segments) for example in examples]))

    @torch.no_grad()
    def prepare(self, batches: Sequence[Sequence[Example]], seconds: float) -> int:
        """Start both towers from the directions in which items differ most; see `SegmentModel.prepare`."""
        self.eval()
        states = torch.cat(
            [self.item_states(self.chosen[start : start + ITEMS]) for start in range(0, len(self.chosen), ITEMS)]
        )
        self.center.copy_(states.mean(0))
        self.spread.copy_(states.std(0, correction=0).clamp(min=LEAST_SPREAD))
        size = min(self.towers.width, *states.shape)
        _, scale, directions = torch.linalg.svd((states - self.center) / self.spread, full_matrices=False)
        start = torch.zeros_like(self.of_item.weight)
        start[:size] = directions[:size] / scale[:size, None].sqrt()
        self.of_item.weight.copy_(start)
        self.of_user.weight.copy_(torch.cat([torch.zeros_like(start), start / 2, start / 2], dim=1))
        return len(states)

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
        """Return the vectors of the users of a batch, float32 [B, width]."""
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
