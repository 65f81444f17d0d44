"""Serving of RecFound by tokens: recommendations, embeddings and generated answers."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from recbole_recfound.backbone import full_precision
from recbole_recfound.data.collate import RECORD
from recbole_recfound.data.multi_task import USERS, catalogue_of
from recbole_recfound.data.padding import pad
from recbole_recfound.data.record_pairs import text_tensors
from recbole_recfound.data.split.protocol import check_topk
from recbole_recfound.data.task import EMBEDDING, TASKS, GenerativeExample
from recbole_recfound.data.task.sa import rating_text
from recbole_recfound.data.task_tests import TestOptions
from recbole_recfound.data.text import Catalogue, ItemTexts, TokenTable
from recbole_recfound.errors import ConfigError, DataError
from recbole_recfound.model.generation import Generator, trie_of
from recbole_recfound.model.pretrained import read_base
from recbole_recfound.model.recfound import RecFound
from recbole_recfound.model.saved import SavedModel, read_model
from recbole_recfound.runtime.arguments import checked_count, checked_list
from recbole_recfound.serving.best import best_of
from recbole_recfound.serving.checks import checked_text, checked_texts
from recbole_recfound.serving.data import splits_of
from recbole_recfound.serving.evaluate import Evaluation, protocol_of, rank_test
from recbole_recfound.serving.export import export_run
from recbole_recfound.serving.export.exported import Exported
from recbole_recfound.serving.histories import FILE, UserHistories, item_ids
from recbole_recfound.serving.index import SAMPLE, ApproximateIndex, approximates
from recbole_recfound.serving.new_items import new_items
from recbole_recfound.serving.recommender import Recommender, one_at_a_time
from recbole_recfound.serving.request import Domains, Rows

BATCH = 64
"""Histories or texts encoded at once."""
MOST_LEFT_OUT = 1_000
"""Most excluded items for which an approximate search is worth while: it must find that many more."""
QUERIES = "Q2I"
"""Task whose route ranks items for free text."""


class RecFoundRecommender(Recommender):
    """A finished run of RecFound.

    Args:
        saved: the files of the run.
        data_path: where data sets lie, for histories of known users; None: where they were for the run.
    """

    def __init__(self, saved: SavedModel, data_path: str | None = None) -> None:
        self.saved, self.data_path = saved, data_path
        self.model, self.collator = RecFound.of_saved(saved), saved.collator
        self.device = self.model.device
        self.catalogue: Catalogue = saved.items.catalogue
        settings = saved.settings
        indices = saved.items.item_ids.index_of_id[1:].tolist()
        super().__init__(
            {self.catalogue.tokens[index]: number for number, index in enumerate(indices, start=1)},
            ["", *(self.catalogue.sentence_of(index) for index in indices)],
            settings["ITEM_ID_FIELD"],
            settings["USER_ID_FIELD"],
            not settings["repeatable"],
        )
        self._known: UserHistories | None = None
        self._index: ApproximateIndex | None = None
        self._text_table: torch.Tensor | None = None
        self._generator: Generator | None = None

    # Ranking ----------------------------------------------------------------------------------------------------------

    def _scores(self, rows: Rows, domains: Domains) -> torch.Tensor:
        self._refuse_domains(domains)
        users = self._user_vectors(rows.histories)
        with full_precision(self.device):
            return users @ self.model.item_vectors().T

    def _best(self, rows: Rows, k: int, allowed: torch.Tensor, domains: Domains) -> tuple[torch.Tensor, torch.Tensor]:
        """Search a large catalogue approximately, except for a choice of many or among few; see `Recommender._best`."""
        left_out = int((~allowed).sum(1).max())
        if not approximates(len(self.tokens), k) or left_out > k + MOST_LEFT_OUT:
            return super()._best(rows, k, allowed, domains)
        index = self._approximate()
        if not index.worthwhile:
            return super()._best(rows, k, allowed, domains)
        self._refuse_domains(domains)
        longest = max(map(len, rows.had)) if self.masks_history else 0
        scores, ids = index.search(self._user_vectors(rows.histories), k + left_out + longest)
        ids = ids.clamp(min=0)  # -1 where fewer were found; the padding is never allowed
        scores[~allowed.expand(len(ids), -1).gather(1, ids)] = -torch.inf
        if self.masks_history:
            for row, had in enumerate(rows.had):
                scores[row, torch.isin(ids[row], torch.from_numpy(had))] = -torch.inf
        ids, order = ids.sort(dim=1)
        values, places = best_of(scores.gather(1, order), k)
        ids = ids.gather(1, places)
        short = (values == -torch.inf).any(1).nonzero().flatten()
        if len(short):  # the lists that were read hold fewer allowed items than the catalogue may
            few = Rows.joined([rows.take(slice(row, row + 1)) for row in short.tolist()])
            values[short], ids[short] = super()._best(few, k, allowed.expand(len(rows), -1)[short], domains)
        return values, ids

    def _approximate(self) -> ApproximateIndex:
        """Return the index of all item vectors, built on first use and after items were added."""
        if self._index is None:
            vectors = self.model.item_vectors()
            rng = np.random.default_rng(0)
            items = rng.integers(1, len(self.tokens), size=(SAMPLE, 4))
            index = ApproximateIndex(vectors, self._user_vectors(list(items)))
            found = f"{len(self.tokens) - 1:,} items: faiss reads {index.probes} of {index.lists} lists and finds"
            search = "used" if index.worthwhile else "not used: exact search is as fast"
            print(f"{found} {index.recall:.1%} of the exact ten best ({search})", flush=True)
            self._index = index
        return self._index

    def _text_scores(self, texts: Sequence[str]) -> torch.Tensor:
        if QUERIES not in self.model.parts.tasks:
            known = ", ".join(self.model.parts.tasks)
            raise ConfigError(f"query: the run was not trained on {QUERIES} (free text to items) but on {known}")
        self._check_histories()
        vectors = []
        for start in range(0, len(texts), BATCH):
            some = list(texts[start : start + BATCH])
            vectors.append(self.model.encode(QUERIES, *self.collator.queries([QUERIES] * len(some), some)).float())
        with full_precision(self.device):
            return torch.cat(vectors) @ self._texts_for_queries().T

    def _texts_for_queries(self) -> torch.Tensor:
        """Return what queries are compared with, encoded on first use: all items, by their texts."""
        if self._text_table is None:
            self._text_table = self.model.text_vectors(QUERIES).float()
        return self._text_table

    @one_at_a_time
    def prepare(self) -> None:
        """Compute the vectors of all items, and those of their texts for queries; see `Recommender.prepare`."""
        if self.model.parts.ranks:
            self.model.item_vectors()
            if QUERIES in self.model.parts.tasks:
                self._texts_for_queries()

    def _pair_scores(self, rows: Rows, items: np.ndarray, domains: Domains) -> torch.Tensor:
        self._refuse_domains(domains)
        return (self._user_vectors(rows.histories) * self.model.item_vectors()[items]).sum(-1)

    def _user_vectors(self, histories: Sequence[np.ndarray]) -> torch.Tensor:
        longest = self.collator.max_history
        recent = [history[-longest:] for history in histories]
        vectors = []
        for start in range(0, len(recent), BATCH):
            some = recent[start : start + BATCH]
            items = torch.from_numpy(pad(some, fill=0)[0]).to(self.device)
            lengths = torch.tensor([len(history) for history in some], device=self.device)
            vectors.append(self.model.user_vectors(items, lengths).float())
        return torch.cat(vectors)

    @one_at_a_time
    def evaluate(self, dataset: str | None = None, data_path: str | None = None) -> Evaluation:
        """Score the test part of the run's data or of others; see `Recommender.evaluate`.

        An item of other data is one of the run's if token and text are the same; any other is ranked by its text. Data
        with the name of the run's must be those that it was trained on.

        Args:
            dataset: name of the data set; None: that of the run.
            data_path: where data sets lie; None: where they were for the run.
        """
        self._check_histories()
        checkpoint = read_base(self.saved.folder, False)
        changes = {"seed": checkpoint.seed}
        splits = splits_of(self.saved.folder, checkpoint, changes, data_path or self.data_path, dataset)
        check_topk(splits)
        items = catalogue_of(splits.config, splits.train_set)
        place, new = self._places(items, list(item_ids(splits.train_set)))
        known = splits.known_at_test
        with self._with_items(new), full_precision(self.device):
            vectors = self.model.item_vectors()[torch.from_numpy(place)]
            metrics = rank_test(
                splits, lambda users: self._user_vectors([place[known.of(user)] for user in users.tolist()]) @ vectors.T
            )
        return Evaluation(protocol_of(splits), metrics, len(new))

    def _places(self, items: Catalogue, tokens: Sequence[str]) -> tuple[np.ndarray, Catalogue]:
        """Find the items of other data among those of the run.

        Args:
            items: catalogue of the other data.
            tokens: its ranked items.

        Returns:
            Item id of each token, int64 [1 + tokens] with 0 for the padding, and the items that the run does not have,
            whose ids follow those of the run. An item is the run's if token and text are the same.
        """
        fields = set(self.catalogue.fields)
        shared = [{name: value for name, value in values.items() if name in fields} for values in items.values]
        as_here = Catalogue(items.tokens, self.catalogue.fields, shared, len(items))
        place, rows = [0], list[int]()
        for token in tokens:
            row, own = items.row_of[token], self.item_ids.get(token)
            if own is None or self.texts[own] != as_here.sentence_of(row):
                own = len(self.tokens) + len(rows)
                rows.append(row)
            place.append(own)
        new = Catalogue(
            [items.tokens[row] for row in rows], items.fields, [items.values[row] for row in rows], len(rows)
        )
        return np.array(place, dtype=np.int64), new

    @contextmanager
    def _with_items(self, items: Catalogue) -> Iterator[None]:
        """Rank further items for a while.

        Args:
            items: the further ones; their ids follow those of the run.
        """
        model, collator = self.model, self.collator
        kept = model.item_table.fixed, model.parts, model.n_items, model.history.source, collator.texts
        texts, self._text_table = self._text_table, None
        try:
            self._append(items)
            yield
        finally:
            model.item_table.fixed, model.parts, model.n_items, model.history.source, collator.texts = kept
            model.eval()  # drops the vectors of the further items
            self._index, self._text_table = None, texts

    @one_at_a_time
    def export(self, task: str, form: str, out: str | Path) -> Path:
        """Write one task in the format of another library; see `Recommender.export`.

        Args:
            task: name of a task of the run.
            form: one of `FORMATS`.
            out: folder to write; it must not exist.
        """
        return export_run(Exported(self.saved, self.model, self.tokens, self.texts), task, form, out)

    def _check_histories(self) -> None:
        if not self.model.parts.ranks:
            raise ConfigError(f"{self.saved.folder}: the run was trained without U2I on a data set and ranks nothing")

    def _user_id(self, user: str) -> int | None:
        self._check_histories()
        return self._users().users.get(user)

    def known_users(self) -> list[str]:
        """Return the tokens of all users of the run."""
        return self._users().known()

    def _history_of(self, user_id: int) -> np.ndarray:
        return self._users().histories.of(user_id)

    def _had_by(self, user_id: int) -> np.ndarray:
        return self._users().had.of(user_id)

    def _users(self) -> UserHistories:
        if self._known is None:
            self._known = self._read_users()
        return self._known

    def _read_users(self) -> UserHistories:
        folder = self.saved.folder
        if (folder / FILE).is_file():
            return UserHistories.load(folder)
        # Histories may have grown since the training; their items are checked below.
        checkpoint = replace(read_base(folder, False), data=None)
        try:
            splits = splits_of(folder, checkpoint, {"seed": checkpoint.seed}, self.data_path)
        except DataError as error:
            raise ConfigError(
                f"user: the run has no {FILE} and its data set cannot be read ({error}). Pass data_path= or a history "
                "of item tokens, or train with --save_histories"
            ) from None
        if (found := list(item_ids(splits.train_set))) != (trained := self._trained_tokens()):
            how = "in another order than" if sorted(found) == sorted(trained) else "other than"
            raise DataError(f"user: the items of the data set are {how} {folder} was trained on: pass a history")
        return UserHistories.of(splits)

    def _trained_tokens(self) -> list[str]:
        return [self.catalogue.tokens[index] for index in self.saved.items.item_ids.index_of_id[1:]]

    def _refuse_domains(self, domains: Domains) -> None:
        if domains is not None:
            raise ConfigError(
                f"domains: {self.saved.settings['model']} has no kernels of domains; a run of a system with kernels has"
            )

    # Embeddings -------------------------------------------------------------------------------------------------------

    @one_at_a_time
    def embed_user(self, history: Sequence[str] | Sequence[Sequence[str]]) -> torch.Tensor:
        """Embed one history, or several.

        Args:
            history: item tokens, oldest first, or a list of such lists.

        Returns:
            float32 [n, d], l2-normalised; n is 1 for one history.

        Raises:
            ConfigError: unknown tokens.
        """
        given = checked_list(self.item_field, history, ordered=True)
        rows = self._rows([given] if isinstance(given[0], str) else given, by_user=False)
        return self._user_vectors(rows.histories).cpu()

    @one_at_a_time
    def embed_items(self, texts: Sequence[str], task: str = USERS) -> torch.Tensor:
        """Embed texts of items as the queries of an embedding task are ranked against them.

        Args:
            texts: one text per item, as `title, field: value, ...`.
            task: U2I (comparable with `embed_user`), I2I or Q2I.

        Returns:
            float32 [n, d], l2-normalised.

        Raises:
            ConfigError: not an embedding task of the run, or no texts.
        """
        if task not in self.model.parts.tasks or TASKS[task].kind != EMBEDDING:
            known = ", ".join(name for name in self.model.parts.tasks if TASKS[name].kind == EMBEDDING)
            raise ConfigError(f"embed_items: task: got {task!r}, expected one of {known or 'none (no embedding task)'}")
        texts = checked_texts("texts", texts)
        if task == USERS and self.model.parts.ranks:
            return self.model.vectors_of_texts(self._tokenized(texts)).float().cpu()
        vectors = []
        for start in range(0, len(texts), BATCH):
            some = [("", text) for text in texts[start : start + BATCH]]
            batch = text_tensors(some, self.collator.tokenizer, self.collator.texts.max_tokens)
            vectors.append(self.model.encode(task, *batch).float())
        return torch.cat(vectors).cpu()

    def _tokenized(self, texts: Sequence[str]) -> TokenTable:
        return TokenTable.of(texts, self.collator.tokenizer, self.collator.texts.max_tokens)

    # New items --------------------------------------------------------------------------------------------------------

    @property
    def cold_items(self) -> list[str]:
        """Tokens of `.item` without any interaction, which are not recommended unless `add_items` adds them."""
        return [token for token in self.catalogue.tokens if token not in self.item_ids]

    @property
    def item_columns(self) -> list[str]:
        """Names of the columns that describe a new item to the model."""
        return list(self.catalogue.fields)

    @one_at_a_time
    def add_items(self, records: Iterable[Mapping[str, Any]]) -> None:
        """Add items, which can be recommended at once; nothing is trained.

        Their vectors come from their text alone: where items also have a trained id vector, that part is zero.

        Args:
            records: the id field and columns of `.item` for each item; columns that describe no item in this run are
                ignored. Of one of the `cold_items` the id is enough.

        Raises:
            ConfigError: a record without an id or a text, a known token, or a model that was trained without item text.
        """
        self._check_histories()
        new = new_items(records, self.item_field, self.item_ids, dict.fromkeys(self.cold_items), self.catalogue)
        self._append(new)
        for row, token in enumerate(new.tokens):
            self.item_ids[token] = len(self.tokens)
            self.tokens.append(token)
            self.texts.append(new.sentence_of(row))

    def _append(self, items: Catalogue) -> None:
        """Give further items vectors and texts behind those of the run."""
        if not len(items):
            return
        titles, sentences = (
            [text_of(index) for index in range(len(items))] for text_of in (items.title_of, items.sentence_of)
        )
        table = self._tokenized(sentences)
        vectors = self.model.vectors_of_texts(table)
        texts: ItemTexts = self.collator.texts.extended(titles, sentences, self.collator.tokenizer)
        self.model.add_item_vectors(vectors, table)
        self._index = None
        if self._text_table is not None:
            self._text_table = torch.cat([self._text_table, self.model.text_vectors(QUERIES, table).float()])
        self.collator.texts = texts
        self.model.history.source = self.model.history.source.extended(texts, len(items))

    # Answers ----------------------------------------------------------------------------------------------------------

    @one_at_a_time
    def generate(self, task: str, *, max_new_tokens: int | None = None, **fields: Any) -> str:
        """Generate the answer of a generative task.

        Args:
            task: name of the task, as SR.
            max_new_tokens: longest answer, in tokens, where any text is one; a longer answer is cut. None: that of the
                run (`test_args: {max_answer_tokens}`).
            fields: slots of its prompt: `history` (item tokens, or pairs of token and rating), `candidates` (item
                tokens), `item` (a token, else any text), and texts; `prompt` for a task that was trained on records.

        Returns:
            The answer; of a task with few answers, one of these.

        Raises:
            ConfigError: not a generative task of the run, other slots than those of its prompt, or more new tokens than
                the backbone's context has behind the prompt.
        """
        if task not in self.model.parts.tasks or TASKS[task].kind == EMBEDDING:
            known = ", ".join(name for name in self.model.parts.tasks if TASKS[name].kind != EMBEDDING)
            raise ConfigError(f"generate: task: got {task!r}, expected one of {known or 'none (no generative task)'}")
        name = RECORD if "prompt" in fields else task
        template = self.collator.templates.get(name)
        slots = sorted(template.slots) if template else ["prompt"]
        if template is None or sorted(fields) != slots:
            raise ConfigError(
                f"generate: {task}: got {', '.join(sorted(fields)) or 'no fields'}, expected {', '.join(slots)}"
            )
        # A task may be trained on both, examples from atomic files and records.
        forms = {"prompt": "prompt"} if name == RECORD else self.saved.forms[task]
        example = GenerativeExample(
            {slot: self._slot(forms.get(slot, "text"), value) for slot, value in fields.items()}, ""
        )
        choices = self.saved.choices.get(task, ())
        if "candidates" in fields:
            count = len(example.slots["candidates"][1])
            if choices and count > len(choices):
                raise ConfigError(f"generate: {task}: candidates: got {count}, expected at most {len(choices)}")
            choices = choices[:count]
        generator = self._writer()
        trie = trie_of(choices, self.collator.tokenizer, self.device) if choices else None
        prompt = self.collator.prompt(task, example)
        return generator.answers([prompt], [task], self._longest_answer(max_new_tokens, prompt), trie)[0]

    def _longest_answer(self, given: int | None, prompt: np.ndarray) -> int:
        """Return the longest answer behind the token ids of a prompt, in tokens."""
        if given is None:
            return self._testing.max_answer_tokens
        left = self.saved.backbone.context - len(prompt)
        if checked_count("max_new_tokens", given) > left:
            raise ConfigError(
                f"max_new_tokens: got {given}, expected at most {left}: the backbone's context has no more"
            )
        return given

    @property
    def _testing(self) -> TestOptions:
        return TestOptions.of(self.saved.settings["test_args"], "test_args")

    def _writer(self) -> Generator:
        if self._generator is None:
            self._generator = Generator(self.model.backbone, self.collator.tokenizer, self.device, self._testing.beams)
        return self._generator

    def _slot(self, form: str, value: Any) -> tuple[str, Any]:
        """Return the value of a slot in the form of the examples; an item may also be any text."""
        if form in ("titles", "lettered"):
            return form, tuple(self._indices(value))
        if form == "rated":
            pairs = list(value) if isinstance(value, (list, tuple)) else [value]
            if not all(isinstance(pair, (list, tuple)) and len(pair) == 2 for pair in pairs):
                raise ConfigError(f"history: got {value!r}, expected pairs of item token and rating")
            indices = self._indices([item for item, _ in pairs])
            return form, tuple(zip(indices, (_rating(rating) for _, rating in pairs), strict=True))
        if form in ("title", "sentence") and str(value) in self.item_ids:
            return form, self._indices([str(value)])[0]
        return "prompt" if form == "prompt" else "text", checked_text("generate", value)

    def _indices(self, tokens: Sequence[str]) -> list[int]:
        return self.model.history.source.item_ids.to_catalogue(self._items(tokens)).tolist()


def _rating(given: Any) -> str:
    """Return a rating of a request as training writes it."""
    if given is None:
        return rating_text(float("nan"))
    if isinstance(given, (int, float)) and not isinstance(given, bool):
        return rating_text(float(given))
    return checked_text("history", given)


def load_ranking(folder: Path, backbone: str | None = None, data_path: str | None = None) -> RecFoundRecommender:
    """Load a finished run of RecFound: the run folder and the backbone are enough.

    Args:
        folder: the run folder.
        backbone: name or folder of the backbone; None: the one that the run was trained with.
        data_path: where data sets lie, for histories of known users; None: where they were for the run.

    Raises:
        BackboneError: the backbone cannot be loaded.
        ConfigError: no finished run, or another backbone.
        DataError: a file is missing or damaged.
    """
    return RecFoundRecommender(read_model(folder, backbone), data_path)
