"""Items whose text resembles the user's items, by words: baselines that also rank what nobody has chosen yet."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from functools import cached_property, partial
from typing import Any

import numpy as np
import torch
from recbole.data.dataset import Dataset
from recbole.data.interaction import Interaction
from recbole.model.abstract_recommender import GeneralRecommender
from recbole.utils import InputType, ModelType
from scipy import sparse
from sklearn.feature_extraction.text import TfidfVectorizer

from recbole_recfound.config.configurator import Config
from recbole_recfound.data.multi_task import catalogue_of
from recbole_recfound.data.split.histories import Histories
from recbole_recfound.data.split.interactions import interactions_of
from recbole_recfound.errors import ConfigError


class TextNeighbours(GeneralRecommender):
    """Score an item by the sum of the cosines between its text and those of the user's items; nothing is trained.

    Args:
        config: settings of the run, with `item_args`.
        dataset: RecBole's built training set.

    Attributes:
        texts: [num_items, d], sparse or not, rows of length 1; zeros for the padding.
        known: training rows of each user.

    Raises:
        ConfigError, DataError: there are no texts, or .item is malformed.
    """

    type = ModelType.TRADITIONAL
    input_type = InputType.POINTWISE
    modes = ("full", "uni", "pop")
    """Modes of `eval_args`, without their numbers."""

    def __init__(self, config: Config, dataset: Dataset) -> None:
        super().__init__(config, dataset)
        self.history_fields = dataset.iid_field + config["LIST_SUFFIX"], config["ITEM_LIST_LENGTH_FIELD"]
        catalogue = catalogue_of(config, dataset)
        name, file = type(self).__name__, f"{config['dataset']}.item"
        if not catalogue.fields:
            raise ConfigError(f"{file}: no text columns, but texts are all that {name} compares")
        tokens = [str(token) for token in dataset.field2id_token[dataset.iid_field]]
        sentences = [catalogue.text_of(catalogue.row_of[token]) for token in tokens[1:]]
        if not any(sentences):
            columns = ", ".join(catalogue.fields)
            raise ConfigError(f"{file}: no item has a text in {columns}, but texts are all that {name} compares")
        self._read = partial(self.vectors, sentences, config)
        self.known = Histories.from_pairs(*interactions_of(dataset), dataset.user_num)
        self.fake_loss = torch.nn.Parameter(torch.zeros(1))  # RecBole's trainer needs a parameter

    @cached_property
    def texts(self) -> Any:
        """Vectors of all items, made when they are first needed: a run that is loaded has them in a file."""
        vectors = self._read()
        stack = sparse.vstack if sparse.issparse(vectors) else np.vstack
        return stack([vectors[:1] * 0, vectors])

    @abstractmethod
    def vectors(self, sentences: Sequence[str], config: Config) -> Any:
        """Return the vectors of texts, [n, d], a sparse matrix or an array, each of length 1.

        Args:
            sentences: n texts.
            config: settings of the run.
        """

    def calculate_loss(self, interaction: Interaction) -> torch.Tensor:
        """Return 0: nothing is trained."""
        return torch.nn.Parameter(torch.zeros(1))

    def full_sort_predict(self, interaction: Interaction) -> torch.Tensor:
        """Return the scores of all items for each user, flattened as RecBole expects.

        Args:
            interaction: users with their histories in RecBole's sequential fields.
        """
        scores = self._users(interaction) @ self.texts.T
        scores = scores if isinstance(scores, np.ndarray) else scores.toarray()
        return torch.from_numpy(scores.reshape(-1)).float().to(self.device)

    def predict(self, interaction: Interaction) -> torch.Tensor:
        """Return the score of each (user, item) row, float32 [B]."""
        items = self.texts[interaction[self.ITEM_ID].cpu().numpy()]
        users = self._users(interaction)
        products = users * items if isinstance(users, np.ndarray) else users.multiply(items)
        return torch.from_numpy(np.asarray(products.sum(1)).reshape(-1)).float().to(self.device)

    def _users(self, interaction: Interaction) -> Any:
        """Return the sum of the texts of each user's items, [B, d]; of training rows where no history is given."""
        names, length = self.history_fields
        if names in interaction:
            histories = interaction[names].cpu().numpy()
            known = np.arange(histories.shape[1]) < interaction[length].cpu().numpy()[:, None]
            rows, items = np.repeat(np.arange(len(histories)), known.sum(1)), histories[known]
        else:
            rows, items = self.known.flat(interaction[self.USER_ID].cpu().numpy())
        shape = (len(interaction), self.texts.shape[0])
        return sparse.csr_matrix((np.ones(len(rows)), (rows, items)), shape=shape) @ self.texts


class TextKNN(TextNeighbours):
    """Texts by TF-IDF; see `TextNeighbours` for the arguments."""

    def __init__(self, config: Config, dataset: Dataset) -> None:
        super().__init__(config, dataset)
        self.texts  # noqa: B018  (cheap: texts without words are refused at once)

    def vectors(self, sentences: Sequence[str], config: Config) -> Any:
        """Return sparse vectors of words, [n, words].

        Args:
            sentences: n texts.
            config: settings of the run.

        Raises:
            ConfigError: no text has a word.
        """
        try:
            words = TfidfVectorizer(sublinear_tf=True, token_pattern=r"\b\w+\b").fit_transform(sentences)
        except ValueError:
            raise ConfigError(f"{config['dataset']}.item: the texts have no words for TextKNN to compare") from None
        return sparse.csr_matrix(words)
