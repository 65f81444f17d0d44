"""Serving of RecBole's own models by tokens."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from recbole.data.interaction import Interaction
from recbole.utils import ModelType, get_trainer, init_seed
from scipy import sparse
from torch import nn

from recbole_recfound.data.multi_task import catalogue_of
from recbole_recfound.data.padding import pad
from recbole_recfound.data.split.history_dataset import RecFoundDataset, history_fields
from recbole_recfound.data.split.protocol import Splits
from recbole_recfound.errors import ConfigError
from recbole_recfound.evaluation.clicks import with_gauc
from recbole_recfound.model.textknn import TextNeighbours
from recbole_recfound.serving.evaluate import Evaluation, protocol_of
from recbole_recfound.serving.histories import UserHistories, item_ids
from recbole_recfound.serving.recommender import Recommender, one_at_a_time
from recbole_recfound.serving.request import Domains, Rows


def _by_similarity(attribute: str) -> Callable[[Any, sparse.csr_matrix], np.ndarray]:
    """Return the scores of a model that multiplies a user's row of interactions with a matrix of items."""

    def scores(model: Any, rows: sparse.csr_matrix) -> np.ndarray:
        found = rows @ getattr(model, attribute)
        return np.asarray(found if isinstance(found, np.ndarray) else sparse.csr_matrix(found).todense())

    return scores


OF_HISTORIES: dict[str, Callable[[Any, sparse.csr_matrix], np.ndarray]] = {
    "EASE": _by_similarity("item_similarity"),
    "SLIMElastic": _by_similarity("item_similarity"),
    "ItemKNN": _by_similarity("w"),
    "Pop": lambda model, rows: np.broadcast_to(
        model.item_cnt.float().cpu().numpy().reshape(1, -1), (rows.shape[0], len(model.item_cnt))
    ),
}
"""Models that know a user by the row of interactions alone: scores [B, num_items] of rows [B, num_items]."""


class RecBoleRecommender(Recommender):
    """A trained model of RecBole.

    Histories are read by sequential models and by those of `OF_HISTORIES`; any other knows users by their ids.

    Args:
        model: in eval.
        splits: its data: features and histories of users.
    """

    model: Any  # RecBole's models have methods that nn.Module does not declare

    def __init__(self, model: nn.Module, splits: Splits) -> None:
        self.model, self.splits = model.eval(), splits
        self.device = splits.config["device"]
        self.data = data = splits.train_set
        self.catalogue = catalogue_of(splits.config, data)
        ids = item_ids(data)
        texts = ["", *(self.catalogue.sentence_of(self.catalogue.row_of[token]) for token in ids)]
        super().__init__(ids, texts, data.iid_field, data.uid_field, not splits.config.repeats)
        self.known = UserHistories.of(splits)
        self._cold = torch.from_numpy(np.setdiff1d(np.arange(1, data.item_num), self.known.histories.items))
        self.name: str = splits.config["model"]
        # Neighbours that are users know no new user.
        self._by_row = self.name in OF_HISTORIES and getattr(model, "method", "item") == "item"
        self.reads_items = splits.config["MODEL_TYPE"] == ModelType.CONTEXT
        reads_texts = isinstance(data, RecFoundDataset) or isinstance(model, TextNeighbours)
        self.reads_histories = splits.config["MODEL_TYPE"] == ModelType.SEQUENTIAL or reads_texts

    @one_at_a_time
    def evaluate(self, dataset: str | None = None, data_path: str | None = None) -> Evaluation:
        """Score the test part of the run's data; see `Recommender.evaluate`.

        Args:
            dataset: that of the run, or None.
            data_path: that of loading, or None.
        """
        config = self.splits.config
        own = dataset in (None, config["dataset"])
        if not own or (data_path and Path(data_path).resolve() != Path(config["data_path"]).resolve().parent):
            raise ConfigError(
                f"evaluate: {self.name} knows users and items of {config['dataset']} by their ids: load the run with "
                "data_path= and evaluate it on these data"
            )
        return Evaluation(protocol_of(self.splits), self._test_metrics())

    def _test_metrics(self) -> dict[str, float]:
        """Return the metrics of the test part."""
        return score_test(self.model, self.splits)

    @property
    def cold_items(self) -> list[str]:
        """Tokens of `.item` without any interaction, which are recommended only where `candidates` names them."""
        return [self.tokens[item] for item in self._cold.tolist()]

    def _allowed(self, exclude: Iterable[str], candidates: Iterable[str] | None) -> torch.Tensor:
        allowed = super()._allowed(exclude, candidates)
        if candidates is None:
            allowed[self._cold] = False
        return allowed

    def _check_histories(self) -> None:
        if not (self.reads_histories or self._by_row):
            raise ConfigError(f"history: {self.name} reads no histories but users by their ids: give user=TOKEN")

    def _user_id(self, user: str) -> int | None:
        return self.known.users.get(user)

    def known_users(self) -> list[str]:
        """Return the tokens of all users of the data set who have interactions."""
        return self.known.known()

    def _history_of(self, user_id: int) -> np.ndarray:
        return self.known.histories.of(user_id)

    def _had_by(self, user_id: int) -> np.ndarray:
        return self.known.had.of(user_id)

    def _scores(self, rows: Rows, domains: Domains) -> torch.Tensor:
        self._check_domains(domains)
        if self._by_row:
            return torch.from_numpy(np.array(OF_HISTORIES[self.name](self.model, self._matrix(rows)), dtype=np.float32))
        if self.reads_items:
            return self._by_pairs(rows, domains)
        placed = self._placed(self._interaction(rows), domains)
        try:
            with self._of_a_request():
                scores = self.model.full_sort_predict(placed)
        except NotImplementedError:
            return self._by_pairs(rows, domains)
        return scores.view(len(rows), len(self.tokens))

    def _pair_scores(self, rows: Rows, items: np.ndarray, domains: Domains) -> torch.Tensor:
        self._check_domains(domains)
        if self._by_row:
            return self._scores(rows, domains)[torch.arange(len(rows)), torch.from_numpy(items)]
        batch = self._interaction(rows)
        batch.update(Interaction({self.data.iid_field: torch.from_numpy(items)}))
        return self._predicted(batch, domains)

    def _predicted(self, pairs: Interaction, domains: Any) -> torch.Tensor:
        """Return the score of each pair, [n]."""
        placed = self._placed(pairs, domains)
        try:
            with self._of_a_request():
                return self.model.predict(placed).flatten()
        except (NotImplementedError, AssertionError) as error:  # RecBole's CPR models assert False
            raise ConfigError(f"{self.name} cannot score single items") from error

    @contextmanager
    def _of_a_request(self) -> Iterator[None]:
        """Refuse models that read a column of RecBole's own batches, such as the target or sampled items."""
        try:
            yield
        except KeyError as error:
            raise self._unanswerable([str(error.args[0])]) from error

    def _unanswerable(self, missing: list[str]) -> ConfigError:
        """Return the error of columns that the model reads and no request has."""
        return ConfigError(
            f"{self.name} also reads {', '.join(missing)} of each interaction, which a request does not have"
        )

    def _matrix(self, rows: Rows) -> sparse.csr_matrix:
        """Return the whole histories as rows of interactions, [B, num_items].

        An item counts as often as the history holds it, as in the matrix of the training rows.
        """
        counted = [np.unique(history, return_counts=True) for history in rows.histories]
        starts = np.concatenate([[0], np.cumsum([len(items) for items, _ in counted])])
        items = np.concatenate([np.zeros(0, dtype=np.int64), *(items for items, _ in counted)])
        counts = np.concatenate([np.zeros(0), *(counts for _, counts in counted)]).astype(np.float32)
        return sparse.csr_matrix((counts, items, starts), shape=(len(rows), self.data.item_num))

    def _by_pairs(self, rows: Rows, domains: Domains) -> torch.Tensor:
        """Return the scores of a model that scores pairs alone, [B, number of items]."""
        each = [rows.take(slice(row, row + 1)) for row in range(len(rows))]
        return torch.stack([self._all_items(row, self._of_row(domains, place)) for place, row in enumerate(each)])

    def _all_items(self, row: Rows, domains: Any) -> torch.Tensor:
        """Return the scores of one user and every item, including the padding item, by pairs."""
        pairs = self._interaction(row).repeat(len(self.tokens))
        pairs.update(Interaction({self.data.iid_field: torch.arange(len(self.tokens))}))
        return self._predicted(pairs, domains)

    def _interaction(self, rows: Rows) -> Interaction:
        return Interaction({self.data.uid_field: torch.from_numpy(rows.users), **self._lists(rows)})

    def _lists(self, rows: Rows) -> dict[str, torch.Tensor]:
        if not self.reads_histories:
            return {}
        width = self.splits.config["MAX_ITEM_LIST_LENGTH"]
        recent = [history[-width:] for history in rows.histories]
        full = np.zeros((len(rows), width), dtype=np.int64)
        padded, _ = pad(recent, fill=0)
        full[:, : padded.shape[1]] = padded
        lengths = np.array([len(history) for history in recent], dtype=np.int64)
        return history_fields(self.data, full, lengths).interaction

    def _placed(self, rows: Interaction, domains: Any) -> Interaction:
        """Add the columns that the model reads, on its device."""
        return self._with_columns(rows).to(self.device)

    def _with_columns(self, rows: Interaction) -> Interaction:
        """Add the columns that the model reads."""
        if not self.reads_items:
            return rows
        rows = self.data.join(rows)
        kinds = ("token_field_names", "token_seq_field_names", "float_field_names", "float_seq_field_names")
        read = [name for kind in kinds for name in getattr(self._reader(), kind, ())]
        if missing := [name for name in read if name not in rows]:
            raise self._unanswerable(missing)
        return rows

    def _reader(self) -> nn.Module:
        """Return the module that reads the columns."""
        return self.model

    def _check_domains(self, domains: Domains) -> None:
        if domains is not None:
            raise ConfigError(f"domains: {self.name} has no kernels of domains; a run of a system with kernels has")

    def _of_row(self, domains: Domains, row: int) -> Any:
        """Return the domains of one row."""
        return None


def score_test(model: nn.Module, splits: Splits) -> dict[str, float]:
    """Score a model on the test part with RecBole's trainer, as in the table.

    Args:
        model: of RecBole.
        splits: its data.
    """
    config = splits.config
    kept = config["checkpoint_dir"]
    with TemporaryDirectory() as folder:  # RecBole's trainer makes folders
        config["checkpoint_dir"] = folder
        try:
            trainer = get_trainer(config["MODEL_TYPE"], config["model"])(config, model)
            trainer.eval_collector.data_collect(splits.train_data)
            init_seed(config["seed"], config["reproducibility"])  # sampled candidates are those of the table
            with with_gauc(trainer, splits.test_set):
                found = trainer.evaluate(splits.test_data, load_best_model=False, show_progress=False)
        finally:
            config["checkpoint_dir"] = kept
    return {name: float(value) for name, value in found.items()}
