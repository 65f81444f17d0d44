"""M6-Rec (arXiv 2205.08084): a frozen language model that reads users and candidates as text."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import ClassVar, cast

import numpy as np
import torch
from peft import PeftModel, get_peft_model
from recbole.data.interaction import Interaction
from recbole.model.abstract_recommender import AbstractRecommender
from recbole.utils import InputType, ModelType
from torch import nn
from torch.nn import functional as F
from tqdm import tqdm

from recbole_recfound.adapter.option import OptionConfig, OptionModel
from recbole_recfound.backbone import Backbone, Decoder, decoder_of, load_backbone
from recbole_recfound.backbone.segments import SegmentCache
from recbole_recfound.config.configurator import Config
from recbole_recfound.data.behaviour import BehaviourTexts, Log, Pack, Source
from recbole_recfound.data.behaviour.dataset import ROW, BehaviourDataset
from recbole_recfound.data.behaviour.options import ONLINE, TextOptions
from recbole_recfound.data.behaviour.read import build_texts
from recbole_recfound.model.late import MEAN, JointBatch, Rows, joint_layers
from recbole_recfound.model.m6rec_options import LateOptions, PromptOptions
from recbole_recfound.model.probe import fit_probe
from recbole_recfound.model.trained import trained_parameters

CLASSES = 2
"""Of a click: no and yes."""


class M6Rec(AbstractRecommender):
    """A click model without item ids: segments of text run alone through the lower layers and meet in the last ones.

    The backbone is frozen. Trained are the soft prompts, whose last rows are the classifier, the adapters beside the
    MLPs of the joint layers, a vector for each kind of segment that is added to it, and one that it is read with.

    Args:
        config: settings of the run: `backbone`, `text_args`, `option_args`, `late_args`, `item_args`.
        dataset: RecBole's built training set.
        backbone: frozen language model, adapted in place; None loads the one that the settings name.

    Attributes:
        texts: segments of users, items and statistics.
        cache: states of segments after the lower layers.
        backbone: the language model with the option adapter.
        kinds: learned vector of each kind of segment, in units of `scale`.
        readers: [K, d], learned difference between the classifier of each classified state and the common one.
        scale: typical size of an entry of a segment's states.
        center, spread: [K, d], mean and standard deviation of the classified states before training: their entries vary
            much less than they differ from 0.

    Raises:
        ConfigError: options that do not fit the data or the backbone.
        DataError: .item or .user is malformed.
        BackboneError: the backbone cannot be loaded.
    """

    type = ModelType.CONTEXT
    input_type = InputType.POINTWISE
    reads_instead: ClassVar[dict[str, str]] = {
        key: "learning_rate, weight_decay" for key in ("learner", "clip_grad_norm", "enable_amp", "enable_scaler")
    }
    """RecBole's training keys that this model does not read -> the keys to use."""

    scale: torch.Tensor
    center: torch.Tensor
    spread: torch.Tensor

    def __init__(self, config: Config, dataset: BehaviourDataset, backbone: Backbone | None = None) -> None:
        super().__init__()
        self.device: torch.device = config["device"]
        self.user_field, self.item_field, self.label_field = dataset.uid_field, dataset.iid_field, config["LABEL_FIELD"]
        self.history_fields = dataset.iid_field + config["LIST_SUFFIX"], config["ITEM_LIST_LENGTH_FIELD"]
        text = TextOptions.of(config["text_args"], "text_args")
        self.prompt = prompt = PromptOptions.of(config["option_args"], "option_args")
        self.late = late = LateOptions.of(config["late_args"], "late_args")
        self.log = cast(Log, dataset.log)
        self.online = text.statistics == ONLINE
        # Held-out rows are no part of what is known: their users and items are requests.
        self.known_rows = len(self.log) if self.online else dataset.log_sizes[0]
        self.texts: BehaviourTexts = build_texts(config, dataset, self.log.take(slice(0, self.known_rows)))
        backbone = backbone or load_backbone(config["backbone"], self.device)
        layers = len(decoder_of(backbone.model).layers)
        self.depth = layers - late.joint_layers
        self.cache = SegmentCache(
            decoder_of(backbone.model),
            backbone.tokenizer,
            self.depth,
            late.states,
            text.max_tokens,
            backbone.fingerprint,
            late.cache_megabytes << 20,
        )
        if late.cache_file and Path(late.cache_file).exists():
            self.cache.load(Path(late.cache_file))
        states = self.cache.get([self.texts.table.texts[self.texts.end]])[0]
        self.register_buffer("scale", states.float().square().mean().sqrt())
        options = OptionConfig(
            task_type="CAUSAL_LM",
            prompts=prompt.prompts,
            classes=CLASSES,
            bottleneck=prompt.bottleneck,
            scale=float(self.scale),
            layers_to_transform=list(range(self.depth, layers)),
        )
        self.backbone: PeftModel = get_peft_model(backbone.model, options)
        width = self.options.width
        classified = len(self.texts.target_kinds) if late.pooling == MEAN else 1
        self.readers = nn.Parameter(torch.zeros(classified, width))
        self.register_buffer("center", torch.zeros(classified, width))
        self.register_buffer("spread", torch.ones(classified, width))
        self.kinds = nn.Embedding(self.texts.kinds, width, device=self.device)
        nn.init.zeros_(self.kinds.weight)
        self.to(self.device)

    @property
    def options(self) -> OptionModel:
        """Prompts, classifier and adapters."""
        return cast(OptionModel, self.backbone.base_model)

    @cached_property
    def decoder(self) -> Decoder:
        """The decoder with its adapters."""
        return decoder_of(self.backbone.get_base_model())

    def train(self, mode: bool = True) -> M6Rec:
        """Switch to training or evaluation; the backbone has no dropout of its own."""
        super().train(mode)
        self.backbone.eval()
        return self

    def forward(self, packs: Sequence[Pack]) -> torch.Tensor:
        """Return the logits of all targets, [N, C], by pack and target.

        Args:
            packs: sources with their targets.
        """
        states = (self.pooled(packs) - self.center) / self.spread
        own = (states * self.readers).sum(2).mean(1) / math.sqrt(self.options.width)
        return self.options.classify(states.mean(1)) + torch.stack([-own, own], dim=1) / 2

    def pooled(self, packs: Sequence[Pack]) -> torch.Tensor:
        """Return the states that are classified, float32 [N, K, d], by pack and target.

        Args:
            packs: sources with their targets.
        """
        batch = JointBatch.of(packs, self.texts.table.texts, self.cache)
        prompts = self.options.prompts()
        first = prompts.expand(len(packs), *prompts.shape)
        dtype = batch.sources.states.dtype
        sources = torch.cat([first, self._with_kinds(batch.sources)], dim=1).to(dtype)
        targets = self._with_kinds(batch.targets).to(dtype)
        return joint_layers(self.decoder, self.depth, batch, sources, targets, self.late.pooling)

    def _with_kinds(self, rows: Rows) -> torch.Tensor:
        """Add the vector of its segment's kind to every state."""
        return rows.states.float() + self.scale * self.kinds(rows.kinds)

    # Packs -----------------------------------------------------------------------------------------------------------

    def training_packs(self, rows: np.ndarray) -> list[tuple[np.ndarray, Pack]]:
        """Return packs of training rows; the source of a pack ends before its first row.

        Args:
            rows: int64 [n], places in the log.

        Returns:
            Rows and pack of each source.
        """
        found = []
        for place in self.texts.packs(self.log.users[rows], self.log.times[rows], self.late.targets):
            own = rows[place]
            source = self.texts.source(int(self.log.users[own[0]]), float(self.log.times[own[0]]))
            found.append((place, Pack(source, self.texts.of_known[own], self.texts.target_kinds)))
        return found

    def _packs(self, interaction: Interaction) -> list[tuple[np.ndarray, Pack]]:
        """Return the packs of a batch to be scored, each with the places of its targets in the batch."""
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
            (place, Pack(sources[of_row[place[0]]], targets[place], self.texts.target_kinds))
            for place in self.texts.packs(of_row, np.zeros(len(users)), self.late.targets)
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

    @torch.no_grad()
    def fit_classifier(self, packs: Sequence[Sequence[Pack]], labels: Sequence[np.ndarray], seconds: float) -> int:
        """Fit the classifier on the states of the untrained model (see `model.probe`).

        Args:
            packs: batches of sources with their targets.
            labels: of each batch, [N] by pack and target.
            seconds: after which no further batch is read.

        Returns:
            Number of targets read.
        """
        self.eval()
        started, found = time.monotonic(), []
        for batch in packs:
            if time.monotonic() - started >= seconds:
                break
            found.append(self.pooled(batch))
        if not found:
            return 0
        targets = np.concatenate(labels[: len(found)])
        states = torch.cat(found)
        found.clear()  # 0.7 GB for 20,000 rows of 15 segments and width 576
        probe = fit_probe(states, targets)
        if probe is None:
            return len(targets)
        self.center.copy_(probe.center)
        self.spread.copy_(probe.spread)
        weight = len(self.readers) * math.sqrt(self.options.width) * probe.weight  # see `forward`
        common = weight.mean(0)
        self.options.prompts()[-CLASSES:] = torch.stack([-common, common]) / 2
        self.readers.copy_(weight - common)
        return len(targets)

    def encode_segments(self, *rows: Interaction, show_progress: bool = False) -> None:
        """Compute the states of all segments of rows, so that none is computed twice and each batch is short.

        Args:
            rows: training rows, and those of other parts.
            show_progress: show a bar.
        """
        segments: set[int] = set()
        for interaction in rows:
            places = interaction[ROW].cpu().numpy()
            training = bool((places < self.known_rows).all()) and not self.online
            for _, pack in self.training_packs(places) if training else self._packs(interaction):
                segments.update(pack.source.segments.tolist(), np.unique(pack.targets).tolist())
        texts = sorted((self.texts.table.texts[segment] for segment in segments), key=len)  # alike in tokens
        for start in tqdm(range(0, len(texts), ENCODED), desc="texts", disable=not show_progress, dynamic_ncols=True):
            self.cache.get(texts[start : start + ENCODED])

    # RecBole ---------------------------------------------------------------------------------------------------------

    def loss_of(self, packs: Sequence[Pack], labels: np.ndarray) -> torch.Tensor:
        """Return the mean cross-entropy of packs.

        Args:
            packs: sources with their targets.
            labels: [N], by pack and target.
        """
        logits = self(packs)
        return F.cross_entropy(logits, torch.from_numpy(labels.astype(np.int64)).to(logits.device))

    def calculate_loss(self, interaction: Interaction) -> torch.Tensor:
        """Return the loss of a batch of training rows.

        Args:
            interaction: RecBole's batch.
        """
        found = self.training_packs(interaction[ROW].cpu().numpy())
        labels = interaction[self.label_field].cpu().numpy()
        return self.loss_of([pack for _, pack in found], np.concatenate([labels[place] for place, _ in found]))

    def predict(self, interaction: Interaction) -> torch.Tensor:
        """Return the probability of a click for each row, float32 [B].

        Args:
            interaction: RecBole's batch: rows of the data, or any pairs of users and items.
        """
        scores = torch.empty(len(interaction), dtype=torch.float32, device=self.device)
        packs = sorted(self._packs(interaction), key=lambda each: len(each[1].source.segments))
        for part in batches_of(packs, TARGETS):
            probability = self([pack for _, pack in part]).float().softmax(-1)[:, 1]
            scores[torch.from_numpy(np.concatenate([place for place, _ in part]))] = probability
        return scores


ENCODED = 256
"""Segments that are requested from the cache at a time."""
TARGETS = 256
"""Candidates scored at a time."""


def batches_of(packs: Iterable[tuple[np.ndarray, Pack]], size: int) -> Iterator[list[tuple[np.ndarray, Pack]]]:
    """Yield packs together until they have `size` candidates.

    Args:
        packs: rows and pack of each source, in the order of the batches.
        size: candidates of a batch, at least; the last one may have fewer.
    """
    batch: list[tuple[np.ndarray, Pack]] = []
    for pack in packs:
        batch.append(pack)
        if sum(len(place) for place, _ in batch) >= size:
            yield batch
            batch = []
    if batch:
        yield batch


def saved_state(model: M6Rec) -> dict[str, torch.Tensor]:
    """Return all tensors that training decides, by name."""
    return {**trained_parameters(model), "center": model.center, "spread": model.spread}
