"""The teacher: everything that the student learns from a finished M6-Rec run, and the texts it reads."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from recbole.data.interaction import Interaction, cat_interactions
from tokenizers import Tokenizer
from torch import nn
from tqdm import tqdm

from recbole_recfound.backbone import Decoder
from recbole_recfound.data.behaviour import Pack
from recbole_recfound.data.behaviour.options import ONLINE, ONLINE_ROW
from recbole_recfound.data.split.protocol import Splits
from recbole_recfound.edge.relation import NAMES, Projections, captured, has_projections, prefix_mask
from recbole_recfound.edge.tokens import SegmentTokens
from recbole_recfound.errors import ConfigError
from recbole_recfound.model.late import GrowingKeys, run_layers
from recbole_recfound.model.m6rec import M6Rec
from recbole_recfound.model.reading.ctr import ClickModel
from recbole_recfound.runtime.finished import read_results

TARGETS = 8
"""Candidates of one user that share a source in the training of the student."""
SCORED = 2048
"""Rows that the teacher scores at a time, at least."""
_OTHER_TASK = f"teacher: its first task is {{}}, expected {ClickModel.task}, which scores candidates"
_ONLINE = (
    f"teacher: its text_args: {{statistics: {ONLINE}}} count held-out rows, which a student must not learn from: "
    "distil a run with the statistics of training rows"
)


def check_teacher(run: str | Path) -> None:
    """Refuse a run that has no model to learn from, before it is loaded.

    Args:
        run: the run folder.

    Raises:
        ConfigError: no finished run, one of another system or first task, or one whose texts count held-out rows.
        DataError: its results are damaged.
    """
    results = read_results(run)
    if results["system"] != M6Rec.__name__:
        raise ConfigError(f"{run} is a run of {results['system']}, expected a teacher that is an {M6Rec.__name__} run")
    rows = [row for row in results["rows"] if "task" in row]
    if rows and rows[0]["task"] != ClickModel.task:
        raise ConfigError(_OTHER_TASK.format(rows[0]["task"]))
    if rows and ONLINE_ROW in rows[0].get("mode", ""):
        raise ConfigError(_ONLINE)


@dataclass(frozen=True)
class Group:
    """Candidates behind one source.

    Attributes:
        pack: source and targets as segments.
        rows: for the teacher, one of each target.
        scores: float32 [n], the teacher's probabilities.
        labels: float32 [n], NaN where nothing is known.
    """

    pack: Pack
    rows: Interaction
    scores: np.ndarray
    labels: np.ndarray


class Teacher:
    """A finished run as a teacher.

    Args:
        model: in eval.
        splits: its data.
        show_progress: show bars.

    Attributes:
        items: tokens of all items, by id from 1.
        cold: bool [items], by id from 1: an item without any interaction.
        behaviours: most items of a history in a source.
        masks_history: whether items of a history are left out of recommendations.
        tokens: of segments, as the student reads them.

    Raises:
        ConfigError: a run of another task, or a tokenizer that the `tokenizers` library does not run or that has no
            token for a line break.
    """

    def __init__(self, model: nn.Module, splits: Splits, show_progress: bool = False) -> None:
        if not isinstance(model, ClickModel):
            task = getattr(model, "task", type(model).__name__)
            raise ConfigError(_OTHER_TASK.format(task))
        if model.online:
            raise ConfigError(_ONLINE)
        self.model, self.splits, self.show_progress = model, splits, show_progress
        tokenizer: Any = model.cache.tokenizer  # only fast ones have the library's object
        if not getattr(tokenizer, "is_fast", False):
            raise ConfigError(
                "teacher: its tokenizer is written in Python: a student needs one of the library tokenizers"
            )
        if not has_projections(self.decoder.layers[0].self_attn):
            raise ConfigError(
                f"teacher: layers of a {self.decoder.config.model_type} model have no {', '.join(NAMES)} of their own, "
                "whose relations a student learns: train the teacher with another backbone"
            )
        copied = Tokenizer.from_str(tokenizer.backend_tokenizer.to_str())
        self.tokens = SegmentTokens(copied, model.cache.max_tokens)
        train = splits.train_set
        self.items = [str(token) for token in train.field2id_token[train.iid_field][1:]]
        self.cold = ~np.isin(np.arange(1, train.item_num), model.log.items)
        self.behaviours = min(model.texts.behaviours, splits.config["MAX_ITEM_LIST_LENGTH"])
        self.masks_history = not splits.config.repeats

    @property
    def texts(self) -> list[str]:
        """All segments made so far, by index."""
        return self.model.texts.table.texts

    @property
    def decoder(self) -> Decoder:
        """The backbone with its adapters."""
        return self.model.decoder

    def item_targets(self) -> np.ndarray:
        """Return the segments of every item for an unknown user, int64 [items, W], by id from 1."""
        items = np.arange(1, len(self.items) + 1)
        return self.model.texts.of_requests(np.zeros_like(items), items)

    def history_texts(self) -> tuple[int, int]:
        """Return the segments of an unknown user's profile and of what stands before an item of a history."""
        segments = self.model.texts.source_of_history(np.array([1])).segments
        return int(segments[0]), int(segments[1]) if len(segments) > 1 else int(segments[0])

    # Examples ---------------------------------------------------------------------------------------------------------

    def training_groups(self, count: int, generator: np.random.Generator) -> list[Group]:
        """Return training rows in packs of one user with the teacher's scores; a source ends before its pack.

        Args:
            count: rows, at least, unless there are fewer.
            generator: draws the packs.
        """
        texts, log = self.model.texts, self.model.log
        rows = np.arange(len(self.splits.train_set.inter_feat))
        packs = texts.packs(log.users[rows], log.times[rows], TARGETS)
        chosen, number = [], 0
        for place in generator.permutation(len(packs)):
            if number >= count:
                break
            chosen.append(packs[place])
            number += len(packs[place])
        features = self.splits.train_set.inter_feat
        parts = [features[torch.from_numpy(own)] for own in chosen]
        scores = self._predict(parts, "training rows")
        labels = features[self.model.label_field].numpy().astype(np.float32)
        return [
            Group(self.model.pack_of(own), part, score, labels[own])
            for own, part, score in zip(chosen, parts, scores, strict=True)
        ]

    def request_groups(self, count: int, candidates: int, generator: np.random.Generator) -> list[Group]:
        """Return parts of training histories as requests of unknown users, with the teacher's scores of any items.

        Args:
            count: number of histories.
            candidates: items of each, at most as many as there are.
            generator: draws both.
        """
        texts = self.model.texts
        warm = np.unique(self.model.log.items[: self.model.known_rows])
        histories = self._histories(count, generator)
        items = [generator.choice(warm, min(candidates, len(warm)), replace=False) for _ in histories]
        asked = [self._request(history, own) for history, own in zip(histories, items, strict=True)]
        scores = self._predict(asked, "histories")
        return [
            Group(
                Pack(texts.source_of_history(history), texts.of_requests(np.zeros_like(own), own), texts.target_kinds),
                rows,
                score,
                np.full(len(own), np.nan, dtype=np.float32),
            )
            for history, own, rows, score in zip(histories, items, asked, scores, strict=True)
        ]

    def test_groups(self) -> list[Group]:
        """Return the test rows, each behind the source that the teacher reads, with its scores."""
        features = self.splits.test_set.inter_feat
        asked = self.model.packs(features, TARGETS)
        parts = [features[torch.from_numpy(each.places)] for each in asked]
        scores = self._predict(parts, "test rows")
        labels = features[self.model.label_field].numpy().astype(np.float32)
        return [
            Group(each.pack, part, score, labels[each.places])
            for each, part, score in zip(asked, parts, scores, strict=True)
        ]

    def score(self, group: Group) -> np.ndarray:
        """Return the teacher's probabilities of one group, float32 [n]."""
        return self._predict([group.rows], "")[0]

    def _histories(self, count: int, generator: np.random.Generator) -> list[np.ndarray]:
        """Return the last items before some training rows."""
        log = self.model.log.take(slice(0, len(self.splits.train_set.inter_feat)))
        order = np.lexsort((np.arange(len(log)), log.times, log.users))
        users, items = log.users[order], log.items[order]
        starts = np.searchsorted(users, users)
        later = np.flatnonzero(np.arange(len(users)) > starts)
        if not len(later):
            raise ConfigError("teacher: no user has two training rows, so that there is no history to learn from")
        rows = generator.choice(later, count, replace=count > len(later))
        lengths = [generator.integers(1, max(1, self.behaviours), endpoint=True) for _ in rows]
        return [items[max(starts[row], row - length) : row] for row, length in zip(rows, lengths, strict=True)]

    def _request(self, history: np.ndarray, items: np.ndarray) -> Interaction:
        names, length = self.model.history_fields
        rows = len(items)
        padded = np.zeros(max(1, self.behaviours), dtype=np.int64)
        padded[: len(history)] = history
        return Interaction(
            {
                self.model.user_field: torch.zeros(rows, dtype=torch.int64),
                self.model.item_field: torch.from_numpy(items),
                names: torch.from_numpy(padded).expand(rows, -1),
                length: torch.full((rows,), len(history)),
            }
        )

    @torch.no_grad()
    def _predict(self, parts: Sequence[Interaction], subject: str) -> list[np.ndarray]:
        """Return the scores of each part; all parts have the same columns."""
        sizes = [len(part) for part in parts]
        scores: list[np.ndarray] = []
        with tqdm(
            total=sum(sizes), desc=subject, disable=not (self.show_progress and subject), dynamic_ncols=True
        ) as bar:
            waiting: list[Interaction] = []
            for number, part in enumerate(parts, start=1):
                waiting.append(part)
                if number < len(parts) and sum(map(len, waiting)) < SCORED:
                    continue
                rows = cat_interactions(waiting).to(self.model.device)
                scores.append(self.model.predict(rows).float().cpu().numpy())
                bar.update(len(rows))
                waiting = []
        return np.split(np.concatenate(scores), np.cumsum(sizes)[:-1]) if parts else []

    # Hidden states ----------------------------------------------------------------------------------------------------

    def embeddings(self, ids: Sequence[int]) -> torch.Tensor:
        """Return the token embeddings of the backbone, float32 [n, d].

        Args:
            ids: in the backbone's vocabulary.
        """
        table = self.decoder.embed_tokens.weight
        return table[torch.tensor(ids, device=table.device)].detach().float().cpu()

    def check_layer(self, layer: int | None) -> int:
        """Return a layer of the backbone, from 1; None stands for the last one.

        Raises:
            ConfigError: beyond the layers.
        """
        layers = len(self.decoder.layers)
        if layer is not None and layer > layers:
            raise ConfigError(f"relation_layer: got {layer}, but the teacher has {layers} layers")
        return layer or layers

    @torch.no_grad()
    def projections(self, source: Sequence[int], target: Sequence[int], layer: int) -> Projections:
        """Return queries, keys and values of a layer over a text, in one pass with the mask of source and target.

        Args:
            source: tokens of the source, in the backbone's vocabulary.
            target: tokens of the target.
            layer: from 1.
        """
        decoder = self.decoder
        ids = torch.tensor([[*source, *target]], device=decoder.embed_tokens.weight.device)
        states = decoder.embed_tokens(ids)
        allowed = prefix_mask(ids.shape[1], len(source)).to(ids.device)[None]
        places = torch.arange(ids.shape[1], device=ids.device)[None]
        with captured(decoder.layers[layer - 1].self_attn) as found:  # type: ignore[arg-type]
            run_layers(decoder, slice(layer), states, allowed, places, GrowingKeys())
        query, key, value = (outputs[0][0].cpu() for outputs in found)
        return query, key, value
