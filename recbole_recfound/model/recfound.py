"""RecFound as a RecBole model: one LLM for embedding and generative tasks (arXiv 2506.11999)."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar, cast

import numpy as np
import torch
from recbole.data.dataset import Dataset
from recbole.data.interaction import Interaction
from recbole.model.abstract_recommender import GeneralRecommender
from recbole.utils import InputType
from torch.nn import functional as F

from recbole_recfound.backbone import Decoder, decoder_of, embedding_norm, full_precision
from recbole_recfound.data import GenerativeBatch, PairBatch, SequenceBatch, StepBatch
from recbole_recfound.data.batches import BatchOptions
from recbole_recfound.data.split.history_dataset import HistoryCollate, HistoryLoader, NoInteractions
from recbole_recfound.data.task import EMBEDDING, GENERATIVE, TASKS, read_ratings
from recbole_recfound.data.text import TokenTable
from recbole_recfound.data.text.options import ItemOptions
from recbole_recfound.errors import ConfigError, DataError
from recbole_recfound.model.example_losses import example_losses, mean_by_task
from recbole_recfound.model.factors import CollaborativeFactors, collaborative_factors
from recbole_recfound.model.item_table import ItemTable
from recbole_recfound.model.options import (
    NO_ADAPTER,
    NO_BODY,
    NO_RECENT_ITEMS,
    PERMUTED_FACTORS,
    RANDOM_BODY,
    RANDOM_ITEM_TEXT,
    SMALL_READER,
    LossOptions,
    TowerOptions,
)
from recbole_recfound.model.parts import RecFoundParts, build_parts, check_built
from recbole_recfound.model.pretrained.families import FAMILIES, Family
from recbole_recfound.model.recent_items import RecentItems
from recbole_recfound.model.saved import SavedModel, read_model
from recbole_recfound.model.small_reader import SmallReader
from recbole_recfound.model.text_tower import TextTower
from recbole_recfound.model.trained import layer_of
from recbole_recfound.model.user_tower import ROUTE, UserTower


class RecFound(GeneralRecommender):
    """One LLM with task-wise low-rank experts that recommends, embeds and answers.

    Declared as a general model so that RecBole hands over plain chronological interactions; the evaluation loader adds
    each user's history in RecBole's usual sequential fields (`RecFoundDataset`).

    Args:
        config: settings of the run, RecBole's Config or ours.
        dataset: RecBole's built training part; None trains on `task_files` alone.
        parts: backbone, adapter and token tables; None builds them from `config` and `dataset`.

    Raises:
        BackboneError: the backbone cannot be loaded or keeps attending causally.
        ConfigError: settings that do not fit the data or the backbone.
        DataError: a malformed data file.
        TrainingError: the adapter has no effect.
    """

    reads_instead: ClassVar[dict[str, str]] = {
        "epochs": "max_steps (it counts steps of all tasks together)",
        "train_batch_size": "batch_args: {embedding: ..., generative: ...}",
        "clip_grad_norm": "max_grad_norm",
        "eval_step": "eval_interval (in steps)",
        "enable_amp": "precision",
        "enable_scaler": "precision",
    }
    """RecBole's training keys that this model does not read -> the keys to use."""

    input_type = InputType.POINTWISE
    reads_ratings = staticmethod(read_ratings)

    def __init__(self, config: Any, dataset: Dataset | None, *, parts: RecFoundParts | None = None) -> None:
        super().__init__(config, dataset or NoInteractions())
        self.parts = parts or build_parts(config, dataset)
        self.device = config["device"]
        self.history = self.parts.history
        losses = LossOptions.of(config["loss_args"], "loss_args")
        towers = TowerOptions.of(config["tower_args"], "tower_args")
        items = ItemOptions.of(config["item_args"], "item_args")
        control = config["control"]
        self.temperature, self.pair_temperature = losses.temperature, losses.pair_temperature
        self.sampled_items = losses.sampled_items if self.n_items > losses.full_softmax_items else 0
        # What the evaluation leaves out of a user's ranking is no candidate in training either.
        self.masks_history: bool = config["mask_history"] and not config["repeatable"]
        self.chunk = BatchOptions.of(config["batch_args"], "batch_args").cache_chunk
        self.backbone = self.parts.adapted
        self.history_field: str = self.ITEM_ID + config["LIST_SUFFIX"]
        self.length_field: str = config["ITEM_LIST_LENGTH_FIELD"]
        # The default names a layer of the bundled backbone; a shallower one gives its last.
        layers = self._decoder.config.num_hidden_layers
        small = control == SMALL_READER
        bypassed = small or control == NO_BODY
        self.user_depth = 0 if bypassed else self.history.user_depth(layers, towers.user_layers)
        self.text_tower = TextTower(self.backbone, self.history.text_depth(layers, towers.text_layers, self.user_depth))
        self.frozen_layers = list(dict.fromkeys(min(layer, layers) for layer in towers.feature_layers))
        self.seed = config["seed"]
        self.random_features = control == RANDOM_ITEM_TEXT
        # The item table is trained by I2I and Q2I: without them its text is the plain backbone's.
        trained = ("I2I", "Q2I") if items.refresh_interval else ()
        self.table_route = next((task for task in trained if task in self.parts.tasks), None)
        width = self._decoder.config.hidden_size
        reader = SmallReader(width, config["MAX_ITEM_LIST_LENGTH"], config["dropout"]) if small else None
        self.user_tower = UserTower(self.backbone, self.user_depth, config["dropout"], reader, self.history.segments)
        self.recent_items = RecentItems(self.history.sequences and control != NO_RECENT_ITEMS)
        self.item_table = ItemTable(
            self.n_items,
            width * (1 + len(self.frozen_layers)),
            width,
            embedding_norm(self._decoder),
            items.use_text,
            items.use_id,
            items.id_scale,
            config["dropout"],
            moved_size=width if self.table_route else 0,
            factor_size=items.factors,
            text_alone=items.text_alone if self.parts.data and self.parts.data.catalogue.fields else 0.0,
        )
        if items.factors and dataset is not None and self.parts.data is not None and self.history.uses_item_table:
            self.item_table.set_factors(self._factors(dataset, items.factors, control == PERMUTED_FACTORS))
        self._freeze_unread()
        self.register_buffer("text_mean", torch.zeros(width), persistent=False)
        self.random_body = control == RANDOM_BODY
        self.task_weights: dict[str, float] = {}
        self.rerank: Callable[[Interaction, torch.Tensor], torch.Tensor] | None = None
        """Changes the scores [B, num_items] of an evaluation, if given."""
        self._frozen_features: torch.Tensor | None = None
        self._table: tuple[torch.Tensor, torch.Tensor] | None = None
        self.to(self.device)
        if self.parts.data is not None:
            check_built(self.backbone, self.parts.tasks, self.device)
        if control == NO_ADAPTER:
            # B is zero: an adapter that never learns is the frozen backbone.
            self.backbone.requires_grad_(False)
        if self.parts.data is not None and dataset is None:
            self._centre_records()

    def _factors(self, dataset: Dataset, count: int, permuted: bool) -> CollaborativeFactors:
        """Return the collaborative factors of the training part; permuted among the items for a control."""
        rows = dataset.inter_feat
        users, items = rows[dataset.uid_field].numpy(), rows[dataset.iid_field].numpy()
        factors = collaborative_factors(users, items, self.n_items, count, self.seed)
        if permuted:  # the padding keeps its place
            factors = factors.permuted(F.pad(1 + torch.randperm(self.n_items - 1, generator=self._generator()), (1, 0)))
        return factors

    @torch.no_grad()
    def _centre_records(self) -> None:
        """Centre pairs by the mean of some positives under the plain backbone (without items there is no catalogue)."""
        assert self.parts.data is not None
        texts = self.parts.data.record_texts()
        if len(texts):
            self.text_mean = self.eval().text_tower.encode_table(texts, None, self.parts.pad_id, self.device).mean(0)

    @property
    def _decoder(self) -> Decoder:
        return decoder_of(self.backbone.get_base_model())

    def _freeze_unread(self) -> None:
        """Freeze weights that no task of this run reads, so that they do not count as trained."""
        if not self.history.uses_item_table or not self.parts.ranks:
            self.user_tower.requires_grad_(False)
            self.recent_items.requires_grad_(False)
            self.item_table.requires_grad_(False)
        read = self._layers_read()
        for name, weight in self.backbone.named_parameters():
            layer = layer_of(name)
            if not read or (layer is not None and layer not in read):
                weight.requires_grad_(False)

    def _layers_read(self) -> set[int]:
        """Return which of the backbone's layers the tasks of this run run with the adapter."""
        layers = range(self._decoder.config.num_hidden_layers)
        if any(TASKS[task].kind == GENERATIVE for task in self.parts.tasks):
            return set(layers)
        depth = self.user_depth if self.parts.ranks else 0
        # Records of U2I are pairs whatever the mode.
        pairs = not self.history.sequences or self.parts.records or any(task != ROUTE for task in self.parts.tasks)
        of_users = layers[len(layers) - depth :] if self.history.segments else layers[:depth]
        return {*of_users, *layers[: self.text_tower.depth if pairs else 0]}

    def train(self, mode: bool = True) -> "RecFound":
        """Switch between training and evaluation; cached item vectors are dropped."""
        self._table = None
        return super().train(mode)

    @classmethod
    def from_run(cls, folder: Path, dataset: Dataset | None = None, backbone: str | None = None) -> "RecFound":
        """Load the model of a finished run, in eval, without its data set.

        Args:
            folder: the run folder.
            dataset: a data set that the model is to be used with; its items must be those of the run.
            backbone: name or folder of the backbone; None: the one that the run was trained with.

        Raises:
            BackboneError: the backbone cannot be loaded.
            ConfigError: no finished run, or another backbone.
            DataError: a file is missing or damaged, or `dataset` has other items.
        """
        return cls.of_saved(read_model(folder, backbone), dataset)

    @classmethod
    def of_saved(cls, saved: SavedModel, dataset: Dataset | None = None) -> "RecFound":
        """Put a model together from the files of a run; see `from_run`.

        Args:
            saved: what `read_model` returned.
            dataset: a data set that the model is to be used with; its items must be those of the run.
        """
        if dataset is not None:
            theirs = dataset.field2id_token[dataset.iid_field][1:]
            ours = [saved.items.catalogue.tokens[index] for index in saved.items.item_ids.index_of_id[1:]]
            if list(map(str, theirs)) != ours:
                raise DataError(f"{saved.folder} was trained on other items: data, load_col or filters have changed")
        model = cls(saved.settings, saved.items, parts=saved.parts)
        saved.restore(model)
        return model.eval()

    @staticmethod
    def training_loader(dataset: Dataset) -> HistoryLoader:
        """Return the loader of training rows with their histories, for kernels on this model."""
        return HistoryLoader(dataset)

    @staticmethod
    def training_rows(dataset: Dataset) -> np.ndarray:
        """Return which training rows have a history, bool [N]."""
        return HistoryCollate(dataset).before > 0

    def apply(self, fn: Callable[[torch.nn.Module], None]) -> "RecFound":
        """Call `fn` once for each module, parents first.

        RecBole's count of FLOPs adds buffers this way, which fails for modules that are shared (the task table of the
        adapted layers) and for those that look attributes up in a child (PEFT's).
        """
        for module in self.modules():
            fn(module)
        return self

    # Item text -------------------------------------------------------------------------------------------------------

    @torch.no_grad()
    def refresh_items(self) -> None:
        """Encode every item's text with the current adapter; the first call also encodes it with the plain backbone."""
        embeds = any(TASKS[task].kind == EMBEDDING for task in self.parts.tasks)
        if self.n_items == 1 or not embeds:  # a run on records alone has no items but the padding
            return
        first = self._frozen_features is None
        was_training = self.training
        self.eval()
        if first:
            self._frozen_features = torch.cat([self._encode_items(None), *map(self._frozen, self.frozen_layers)], 1)
            # Pairs are centred by the texts' mean, also where the item table gets random vectors.
            self.text_mean = self._frozen_features[1:, : len(self.text_mean)].mean(0)
            if self.random_features:
                self._frozen_features.copy_(torch.randn(self._frozen_features.shape, generator=self._generator()))
            if self.random_body:
                self._randomize_decoder()
        follows = self.table_route and not (self.random_features or self.random_body or first)
        trained = self._encode_items(self.table_route) if follows else None
        self.item_table.set_features(cast(torch.Tensor, self._frozen_features), trained)
        self.train(was_training)

    def _generator(self) -> torch.Generator:
        """Return the generator of the controls: the same numbers for every build and device."""
        return torch.Generator().manual_seed(self.seed)

    def _randomize_decoder(self) -> None:
        """Give the decoder's layers random weights (a control: does the pre-trained body matter?)."""
        generator = self._generator()
        for name, weight in self._decoder.layers.named_parameters():
            # An adapter that is switched off (`control: no_adapter`) has frozen weights too: its B must stay zero.
            if not weight.requires_grad and weight.dim() == 2 and "lora_" not in name:
                weight.copy_(self._decoder.config.initializer_range * torch.randn(weight.shape, generator=generator))

    def item_statistics(self) -> dict[str, torch.Tensor]:
        """Return what `restore_items` needs beside the item vectors."""
        return {"text_mean": self.text_mean, **self.item_table.statistics}

    @torch.no_grad()
    def restore_items(self, vectors: torch.Tensor | None, statistics: Mapping[str, torch.Tensor]) -> None:
        """Serve with the item vectors of a finished run; nothing is encoded.

        Args:
            vectors: [num_items, d] as the run wrote them; None where nothing is ranked.
            statistics: of `item_statistics`.

        Raises:
            ValueError: vectors of another shape.
        """
        if self.random_body:
            self._randomize_decoder()
        moved = {name: tensor.to(self.device) for name, tensor in statistics.items()}
        self.text_mean = moved.pop("text_mean")
        self.item_table.statistics = moved
        if vectors is not None:
            if vectors.shape != (self.n_items, len(self.text_mean)):
                raise ValueError(f"item vectors of shape {tuple(vectors.shape)} for {self.n_items} items")
            self.item_table.fixed = vectors.to(self.device)
        self._table = None

    @torch.no_grad()
    def vectors_of_texts(self, tokens: TokenTable) -> torch.Tensor:
        """Return vectors of item texts as users are ranked against them.

        Args:
            tokens: one text per item.

        Returns:
            [texts, d], normalised.

        Raises:
            ConfigError: text takes no part in the item vectors of this model.
        """
        if not self.history.uses_item_table:
            return F.normalize(self._encode_table(tokens, ROUTE) - self.text_mean, dim=-1)
        if not self.item_table.use_text or self.random_features or self.random_body:
            raise ConfigError(
                "item_args, control: trained without item text or on random weights: only its own items have vectors"
            )
        features = torch.cat(
            [self._encode_table(tokens, None), *(self._frozen(layer, tokens) for layer in self.frozen_layers)], 1
        )
        trained = self._encode_table(tokens, self.table_route) if "trained_mean" in self.item_table.statistics else None
        with full_precision(self.device):
            return self.item_table.vectors_of(features, trained)

    def add_item_vectors(self, vectors: torch.Tensor, tokens: TokenTable) -> None:
        """Add items at the end of the id space.

        Args:
            vectors: [n, d], normalised.
            tokens: their sentences.

        Raises:
            ValueError: the model is not one that is only served.
        """
        if self.item_table.fixed is None:
            raise ValueError("items can be added to a loaded model only")
        self.item_table.fixed = torch.cat([self.item_table.fixed, vectors])
        self.parts = replace(self.parts, item_tokens=self.parts.item_tokens.joined(tokens))
        self.n_items += len(vectors)
        self._table = None

    def _encode_items(self, task: str | None, tower: TextTower | None = None) -> torch.Tensor:
        return self._encode_table(self.parts.item_tokens, task, tower)

    def _encode_table(self, tokens: TokenTable, task: str | None, tower: TextTower | None = None) -> torch.Tensor:
        return (tower or self.text_tower).encode_table(tokens, task, self.parts.pad_id, self.device)

    def _frozen(self, layer: int, tokens: TokenTable | None = None) -> torch.Tensor:
        table = self.parts.item_tokens if tokens is None else tokens
        return self._encode_table(table, None, TextTower(self.backbone, layer))

    @torch.no_grad()
    def text_vectors(self, task: str, tokens: TokenTable | None = None) -> torch.Tensor:
        """Return centred vectors under the route of a task, [texts, d], normalised: of all items, or others."""
        encoded = self._encode_items(task) if tokens is None else self._encode_table(tokens, task)
        return F.normalize(encoded - self.text_mean, dim=-1)

    # Losses ----------------------------------------------------------------------------------------------------------

    def forward(self, batch: StepBatch) -> tuple[torch.Tensor, ...]:
        """Return `calculate_loss`; accelerate's wrappers call `forward`.

        Without examples it is zero times every parameter that has a gradient: its backward lets a wrapper that averages
        gradients over processes see all of them at once.
        """
        if not batch.parts:
            touched = [weight.sum() for weight in self.parameters() if weight.grad is not None]
            return (0.0 * cast(torch.Tensor, sum(touched)),)
        return self.calculate_loss(batch)

    def calculate_loss(self, batch: StepBatch) -> tuple[torch.Tensor, ...]:
        """Return the losses of the embedding and of the generative tasks; RecBole sums the tuple and logs its parts.

        Each task weighs as many examples as it has in the batch; `task_losses` keeps the mean of every task.
        """
        sums: dict[str, list[torch.Tensor]] = {EMBEDDING: [], GENERATIVE: []}
        sizes = {EMBEDDING: 0, GENERATIVE: 0}
        by_part: list[tuple[list[str], torch.Tensor]] = []
        for part in batch.parts:
            losses = self.example_losses(part)
            kind = TASKS[part.tasks[0]].kind
            # CoBa weighs losses; every other scheduler leaves them alone and changes what is sampled.
            weights = [self.task_weights.get(task, 1.0) for task in part.tasks]
            sums[kind].append((losses * torch.tensor(weights, device=losses.device)).sum())
            sizes[kind] += len(part)
            by_part.append((part.tasks, losses.detach()))
        # Prompts of one task may come in several parts, by length.
        self.task_losses = mean_by_task(
            [task for tasks, _ in by_part for task in tasks], torch.cat([losses for _, losses in by_part])
        )
        return tuple(cast(torch.Tensor, sum(sums[kind])) / sizes[kind] for kind in sums if sums[kind])

    def example_losses(self, part: SequenceBatch | PairBatch | GenerativeBatch) -> torch.Tensor:
        """Return the loss of each example of one part, [B]."""
        return example_losses(self, part)

    def reads_backbone(self, part: SequenceBatch | PairBatch | GenerativeBatch) -> bool:
        """Return whether a part runs the backbone's layers; histories skip them under `no_body` and `small_reader`."""
        return not isinstance(part, SequenceBatch) or self.user_depth > 0

    def unit_vectors(
        self, ids: torch.Tensor, mask: torch.Tensor, text: torch.Tensor, tasks: list[str], rows: slice
    ) -> torch.Tensor:
        """Return the centred, normalised text vectors [n, d] of some rows, with gradients.

        Args:
            ids: [B, T] token ids.
            mask: [B, T] 1 at real tokens.
            text: [B, T] 1 at tokens to pool.
            tasks: task of each row.
            rows: those to encode.
        """
        vectors = self.text_tower.encode(ids[rows], mask[rows], text[rows], tasks[rows])
        return F.normalize(vectors - self.text_mean, dim=-1)

    @torch.no_grad()
    def encode(self, task: str, ids: torch.Tensor, mask: torch.Tensor, text: torch.Tensor) -> torch.Tensor:
        """Encode texts under the route of one task.

        Args:
            task: name of an embedding task.
            ids: [B, T] token ids, on any device.
            mask: [B, T] 1 at real tokens.
            text: [B, T] 1 at tokens to pool.

        Returns:
            [B, d], centred and normalised.
        """
        ids, mask, text = ids.to(self.device), mask.to(self.device), text.to(self.device)
        return self.unit_vectors(ids, mask, text, [task] * len(ids), slice(None))

    # Ranking ---------------------------------------------------------------------------------------------------------

    @torch.no_grad()
    def table(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Return soft tokens and item vectors, both [num_items, d]; computed once per evaluation."""
        if self.training:
            raise RuntimeError("call eval() first: item vectors must be computed without dropout")
        if self._table is None:
            with full_precision(self.device):
                tokens, vectors = self.item_table()
            fixed = self.item_table.fixed is not None
            self._table = tokens, vectors if fixed else self.history.item_vectors(self, vectors)
        return self._table

    def item_vectors(self) -> torch.Tensor:
        """Return the normalised vectors [num_items, d] against which users are ranked."""
        return self.table()[1]

    @torch.no_grad()
    def user_vectors(self, items: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        """Encode histories.

        Args:
            items: [B, L] item ids, oldest first, padding 0 on the right.
            lengths: [B] real items per row; 0 gives a user without history.

        Returns:
            [B, d], normalised.
        """
        return self.history.user_vectors(self, items, lengths)

    @torch.no_grad()
    def full_sort_predict(self, interaction: Interaction) -> torch.Tensor:
        """Return the scores of all items for each user, flattened as RecBole expects.

        `interaction` carries the histories in RecBole's sequential fields (`item_id_list`, `item_length`).
        """
        users = self.user_vectors(interaction[self.history_field], interaction[self.length_field])
        with full_precision(self.device):
            scores = users @ self.item_vectors().T
        return (self.rerank(interaction, scores) if self.rerank else scores).reshape(-1)

    @torch.no_grad()
    def predict(self, interaction: Interaction) -> torch.Tensor:
        """Score of each (user, item) row of `interaction`."""
        users = self.user_vectors(interaction[self.history_field], interaction[self.length_field])
        return (users * self.item_vectors()[interaction[self.ITEM_ID]]).sum(-1)


def _items_of_base(base: RecFound) -> torch.Tensor:
    return base.item_vectors() / base.temperature


def _loss_of_base(base: RecFound, interaction: Interaction) -> torch.Tensor:
    """Return the next-item loss over the whole catalogue, from the history of each row."""
    users = base.user_vectors(interaction[base.history_field], interaction[base.length_field])
    return F.cross_entropy(users @ _items_of_base(base).T, interaction[base.ITEM_ID])


FAMILIES["RecFound"] = Family("method:user_vectors", (), _items_of_base, _loss_of_base, differentiable=False)
