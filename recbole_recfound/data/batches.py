"""Batches of one training step: tensors grouped by how the model encodes them."""

from dataclasses import dataclass, fields, replace
from typing import Self

import torch

from recbole_recfound.runtime.exchange import Share
from recbole_recfound.runtime.options import Options, option


@dataclass(frozen=True)
class BatchOptions(Options):
    """Sizes of training batches (`batch_args`).

    Attributes:
        embedding: embedding examples per step; short histories are bundled into one example.
        sequence_targets: next items to predict that count as one example of U2I, in one or several histories.
        generative: generative examples per step; see `embedding_share`.
        embedding_share: part of the training's time that is kept for embedding tasks (U2I and pairs of texts), under a
            time limit: a step then has fewer generative examples. 0: none.
        contrastive: pairs of one task that are buffered until a batch has this many: they are each other's negatives.
        generative_chunk: generative examples that are buffered until a pass has this many (a full-depth pass over few
            rows is slow).
        pass_tokens: tokens, padding included, of one pass of a process over generative examples; bounds the memory.
        accumulation: batches per optimiser step.
        cache_chunk: texts encoded at once in contrastive batches, with the gradient of the whole batch (GradCache). 0:
            all.
    """

    embedding: int = option(16, minimum=1)
    sequence_targets: int = option(64, minimum=1)
    generative: int = option(2, minimum=1)
    embedding_share: float = option(0.65, minimum=0, below=1)
    contrastive: int = option(16, minimum=1)
    generative_chunk: int = option(12, minimum=1)
    pass_tokens: int = option(1152, minimum=1)
    accumulation: int = option(1, minimum=1)
    cache_chunk: int = option(0, minimum=0)


@dataclass(frozen=True)
class _OnDevice:
    """Tensors that move together; task names stay on the host, where routing selects experts."""

    tasks: list[str]

    def to(self, device: torch.device) -> Self:
        """Copy with every tensor on `device`."""
        moved = {
            item.name: getattr(self, item.name).to(device)
            for item in fields(self)
            if isinstance(getattr(self, item.name), torch.Tensor)
        }
        return replace(self, **moved)

    def share(self, rank: int, world: int) -> Self:
        """Copy with the examples of one of several processes, see `Share`.

        Args:
            rank: of the process.
            world: number of processes.
        """
        index = Share(len(self), rank, world).index
        picked = {
            item.name: getattr(self, item.name)[index]
            for item in fields(self)
            if isinstance(getattr(self, item.name), torch.Tensor)
        }
        return replace(self, tasks=[self.tasks[row] for row in index], **picked)

    def __len__(self) -> int:
        return len(self.tasks)


@dataclass(frozen=True)
class SequenceBatch(_OnDevice):
    """Histories where every position predicts the next item.

    Attributes:
        items: [B, L] RecBole item ids seen, 0 = padding (on the right).
        targets: [B, L] the next item of each position, 0 = none.
        token_ids: [B, T] the histories as text, or None (soft tokens).
        token_mask: [B, T] 1 = real token.
        ends: [B, L] position of each item's last token in `token_ids`.
        all_rows: see `rows`, of the batch of which this is one process's share; None: of a whole batch.
    """

    items: torch.Tensor
    targets: torch.Tensor
    token_ids: torch.Tensor | None = None
    token_mask: torch.Tensor | None = None
    ends: torch.Tensor | None = None
    all_rows: torch.Tensor | None = None

    @property
    def rows(self) -> torch.Tensor:
        """Items seen and targets of every row of the whole batch, [B, 2 L], 0 = padding."""
        return torch.cat([self.items, self.targets], dim=1) if self.all_rows is None else self.all_rows

    @property
    def all_targets(self) -> torch.Tensor | None:
        """Targets of the batch of which this is one process's share, [N]; None: of a whole batch."""
        if self.all_rows is None:
            return None
        targets = self.all_rows[:, self.items.shape[1] :]
        return targets[targets > 0]

    def share(self, rank: int, world: int) -> Self:
        """Copy with the examples of one process, and what the loss has to know of the others.

        Their targets are the candidates of a sampled softmax, and their users are left out of the factors.

        Args:
            rank: of the process.
            world: number of processes.
        """
        return replace(super().share(rank, world), all_rows=self.rows)


_OF_QUERIES = ("query_ids", "query_mask", "query_text", "positive", "allowed")
_OF_ITEMS = ("item_ids", "item_mask", "item_text")


@dataclass(frozen=True)
class PairBatch(_OnDevice):
    """Queries and items for a contrastive loss; each distinct (task, item) is encoded once.

    One process's share has some of the queries and some of the items; `positive` and `allowed` are about all items.

    Attributes:
        query_ids, query_mask, query_text: [B, T] tokens, real tokens, tokens to pool (instruction left out).
        item_tasks: task of each of the U distinct items; it decides the item's route.
        item_ids, item_mask, item_text: [U, S].
        positive: [B] index of the positive item.
        allowed: [B, U] True where an item is in the softmax of a query: of the same task, and not another positive.
    """

    query_ids: torch.Tensor
    query_mask: torch.Tensor
    query_text: torch.Tensor
    item_tasks: list[str]
    item_ids: torch.Tensor
    item_mask: torch.Tensor
    item_text: torch.Tensor
    positive: torch.Tensor
    allowed: torch.Tensor

    def share(self, rank: int, world: int) -> Self:
        """Copy with the queries and the items of one process.

        Args:
            rank: of the process.
            world: number of processes.
        """
        items = Share(len(self.item_tasks), rank, world).index
        queries = Share(len(self), rank, world).index
        return replace(
            self,
            tasks=[self.tasks[row] for row in queries],
            **{name: getattr(self, name)[queries] for name in _OF_QUERIES},
            item_tasks=[self.item_tasks[row] for row in items],
            **{name: getattr(self, name)[items] for name in _OF_ITEMS},
        )


@dataclass(frozen=True)
class GenerativeBatch(_OnDevice):
    """Prompts with answers.

    Attributes:
        input_ids, attention_mask: [B, T].
        labels: [B, T], -100 everywhere but on the answer and its end token.
    """

    input_ids: torch.Tensor
    attention_mask: torch.Tensor
    labels: torch.Tensor


Part = SequenceBatch | PairBatch | GenerativeBatch


@dataclass(frozen=True)
class StepBatch:
    """All data of one optimiser step.

    Attributes:
        parts: batches by form; prompts of different length come in several.
        counts: examples per task.
    """

    parts: list[Part]
    counts: dict[str, int]

    def to(self, device: torch.device) -> "StepBatch":
        """Copy on `device`."""
        return StepBatch([part.to(device) for part in self.parts], self.counts)
