"""Examples to tensors: item numbers become tokens made once, prompts are filled, rows are padded."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import lru_cache

import numpy as np
import torch
from transformers import PreTrainedTokenizerBase

from recbole_recfound.data.batches import GenerativeBatch, PairBatch, Part, SequenceBatch
from recbole_recfound.data.record_pairs import record_pairs
from recbole_recfound.data.task import GenerativeExample, PairExample, RecordPairExample, SequenceExample
from recbole_recfound.data.task.answers import LETTERS
from recbole_recfound.data.text import Catalogue, PromptTemplate, TokenTable, pad, pad_tokens, plain_tokens

IGNORED = -100
RECORD = "record"
"""Name of the template around the prompt of a JSON-lines record, whatever its task."""


class Collator:
    """Makes batches of one form from examples.

    Args:
        catalogue: items.
        tokenizer: of the backbone.
        templates: compiled prompt of each task that has one, and of `RECORD`.
        iid_of_row: [catalogue] RecBole's item id of each catalogue row, 0 where RecBole does not know the item.
        max_item_tokens: length of one item's text.
        max_prompt_tokens: length of a prompt; histories and long texts are cut, choices and answers never.
        max_history: items of a sequence.
        max_pass_tokens: tokens, padding included, of one batch of prompts with answers.
        max_history_tokens: length of a history as one text: what the backbone can read.
        history_as_text: sequences carry their text (`text` mode, every position) instead of soft tokens.
    """

    def __init__(
        self,
        catalogue: Catalogue,
        tokenizer: PreTrainedTokenizerBase,
        templates: Mapping[str, PromptTemplate],
        iid_of_row: np.ndarray,
        max_item_tokens: int,
        max_prompt_tokens: int,
        max_history: int,
        max_pass_tokens: int,
        max_history_tokens: int,
        history_as_text: bool = False,
    ) -> None:
        rows = range(len(catalogue))
        self.sentences = TokenTable.of([catalogue.sentence_of(row) for row in rows], tokenizer, max_item_tokens)
        self.titles = TokenTable.of([catalogue.title_of(row) for row in rows], tokenizer, max_item_tokens)
        self.title_lengths = self.titles.lengths
        self.tokenizer = tokenizer
        self.templates = templates
        self.iid_of_row = iid_of_row
        self.max_prompt_tokens = max_prompt_tokens
        self.max_history = max_history
        self.max_pass_tokens = max_pass_tokens
        self.max_history_tokens = max_history_tokens
        self.history_as_text = history_as_text
        self.separator = plain_tokens(["\n"], tokenizer)[0]
        # Answers and queries repeat (letters, ratings, one profile per item): tokenise each once.
        self.text_tokens = lru_cache(maxsize=1 << 16)(lambda text: tuple(plain_tokens([text], tokenizer)[0]))

    def __call__(
        self, tasks: Sequence[str], examples: Sequence[object], draws: Sequence[np.random.Generator]
    ) -> list[Part]:
        """Collate examples of one form; prompts of very different length come as several batches.

        Args:
            tasks: task of each example.
            examples: all of the same class.
            draws: a generator per example, for windows of long histories.
        """
        first = examples[0]
        if isinstance(first, SequenceExample):
            return [self.sequences(list(tasks), [self._window(e.items, r) for e, r in zip(examples, draws)])]
        if isinstance(first, PairExample):
            return [self.pairs(list(tasks), examples)]
        if isinstance(first, RecordPairExample):
            return [record_pairs(list(tasks), examples, self.tokenizer, self.max_prompt_tokens)]
        return self.generative(list(tasks), examples)

    def _window(self, items: Sequence[int], rng: np.random.Generator) -> Sequence[int]:
        """The whole sequence, or a random stretch of it when it is longer than the history limit."""
        spare = len(items) - (self.max_history + 1)
        start = int(rng.integers(spare + 1)) if spare > 0 else 0
        return items[start : start + self.max_history + 1]

    def sequences(self, tasks: list[str], rows: Sequence[Sequence[int]]) -> SequenceBatch:
        """Histories whose every position has the next item as its target; of a text that is too long the oldest titles go."""
        if self.history_as_text:
            rows = [row[-len(self.newest(row[:-1])) - 1 :] for row in rows]
        iids = [self.iid_of_row[np.asarray(row, dtype=np.int64)] for row in rows]
        items, _ = pad([row[:-1] for row in iids], fill=0)
        targets, _ = pad([row[1:] for row in iids], fill=0)
        text = self.history_text([row[:-1] for row in rows]) if self.history_as_text else {}
        return SequenceBatch(tasks, torch.from_numpy(items), torch.from_numpy(targets), **text)

    def validation(
        self, tasks: list[str], histories: Sequence[np.ndarray], answers: np.ndarray, sequences: bool
    ) -> SequenceBatch | PairBatch:
        """Histories with one held-out answer each: only the last position counts, or one prompt per history.

        Args:
            tasks: task of each row.
            histories: catalogue rows, oldest first.
            answers: [B] catalogue row of each held-out item.
            sequences: rows as sequences (True) or as prompts.
        """
        if not sequences:
            # What the user had is no negative, as in training.
            examples = [
                PairExample(tuple(row.tolist()), int(item), (), tuple(row.tolist()))
                for row, item in zip(histories, answers)
            ]
            return self.pairs(tasks, examples)
        if self.history_as_text:
            histories = [self.newest(row) for row in histories]
        batch = self.sequences(tasks, [np.append(row, item) for row, item in zip(histories, answers)])
        last = torch.from_numpy(np.array([[len(row) - 1] for row in histories]))
        only = torch.zeros_like(batch.targets).scatter(1, last, batch.targets.gather(1, last))
        return replace(batch, targets=only)

    def newest(self, row: Sequence[int]) -> Sequence[int]:
        """The newest items of a history whose titles fit `max_history_tokens` together; at least one."""
        sizes = self.title_lengths[np.asarray(row, dtype=np.int64)] + len(self.separator)
        fitting = int((np.cumsum(sizes[::-1]) <= self.max_history_tokens).sum())
        return row[-max(1, fitting) :]

    def history_text(self, rows: Sequence[Sequence[int]]) -> dict[str, torch.Tensor]:
        """Histories as one text each, with the place where every title ends."""
        texts, ends = [], []
        for row in rows:
            pieces = [np.append(self.titles[item], self.separator) for item in row]
            texts.append(np.concatenate(pieces) if pieces else np.asarray(self.separator))
            ends.append(np.cumsum([len(piece) for piece in pieces]) - 1)
        ids, mask = pad_tokens(texts, fill=self.tokenizer.pad_token_id)
        places, _ = pad(ends, fill=0)
        return {
            "token_ids": torch.from_numpy(ids),
            "token_mask": torch.from_numpy(mask),
            "ends": torch.from_numpy(places),
        }

    def pairs(self, tasks: list[str], examples: Sequence[PairExample]) -> PairBatch:
        """Queries with the distinct items of the batch."""
        wanted = [(task, row) for task, e in zip(tasks, examples) for row in (e.positive, *e.negatives)]
        items = {key: index for index, key in enumerate(dict.fromkeys(wanted))}
        allowed = np.zeros((len(tasks), len(items)), dtype=bool)
        item_task = np.array([task for task, _ in items])
        item_row = np.array([row for _, row in items], dtype=np.int64)
        for index, (task, example) in enumerate(zip(tasks, examples)):
            allowed[index] = (item_task == task) & ~np.isin(item_row, example.known)
            allowed[index, items[task, example.positive]] = True
        positive = np.array([items[task, example.positive] for task, example in zip(tasks, examples)])
        return PairBatch(
            tasks,
            *self.queries(tasks, [example.query for example in examples]),
            [task for task, _ in items],
            *self.item_texts(item_row),
            positive=torch.from_numpy(positive),
            allowed=torch.from_numpy(allowed),
        )

    def queries(self, tasks: Sequence[str], queries: Sequence[object]) -> tuple[torch.Tensor, ...]:
        """Tokens, mask and text mask of embedding queries; instruction tokens are not pooled."""
        filled = [self._query(task, query) for task, query in zip(tasks, queries)]
        ids, mask = pad_tokens([tokens for tokens, _ in filled], fill=self.tokenizer.pad_token_id)
        text, _ = pad_tokens([is_data for _, is_data in filled], fill=0)
        return torch.from_numpy(ids), torch.from_numpy(mask), torch.from_numpy(text)

    def _query(self, task: str, query: object) -> tuple[np.ndarray, np.ndarray]:
        template = self.templates[task]
        if isinstance(query, str):
            return template.render({"query": self.text_tokens(query)}, self.max_prompt_tokens)
        if isinstance(query, tuple):
            return template.render({"history": [self.titles[row] for row in query]}, self.max_prompt_tokens)
        return template.render({"item": self.sentences[query]}, self.max_prompt_tokens)

    def item_texts(self, rows: Sequence[int]) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Tokens, mask and text mask of items; an item's text has no instruction."""
        ids, mask = pad_tokens([self.sentences[int(row)] for row in rows], fill=self.tokenizer.pad_token_id)
        mask = torch.from_numpy(mask)
        return torch.from_numpy(ids), mask, mask

    def generative(self, tasks: list[str], examples: Sequence[GenerativeExample]) -> list[GenerativeBatch]:
        """Prompts followed by answers; only the answer and its end token are learned. Rows of a batch have similar lengths."""
        end = self.tokenizer.eos_token_id
        rows, labels = [], []
        for task, example in zip(tasks, examples):
            prompt = self.prompt(task, example)
            answer = [*self.text_tokens(example.answer), end]
            rows.append(np.append(prompt, answer))
            labels.append(np.append(np.full(len(prompt), IGNORED), answer))
        batches = []
        for group in group_by_length([len(row) for row in rows], self.max_pass_tokens):
            ids, mask = pad_tokens([rows[index] for index in group], fill=self.tokenizer.pad_token_id)
            wanted, _ = pad_tokens([labels[index] for index in group], fill=IGNORED)
            tensors = (torch.from_numpy(part) for part in (ids, mask, wanted))
            batches.append(GenerativeBatch([tasks[index] for index in group], *tensors))
        return batches

    def prompt(self, task: str, example: GenerativeExample) -> np.ndarray:
        """Token ids of the filled prompt, up to where the answer begins."""
        template = self.templates[RECORD if "prompt" in example.slots else task]
        data = {name: self._slot(*slot) for name, slot in example.slots.items()}
        return template.render(data, self.max_prompt_tokens)[0]

    def _slot(self, form: str, value: object) -> object:
        if form == "text":
            return self.text_tokens(value)
        if form == "prompt":
            return self._record_prompt(value)
        if form == "title":
            return self.titles[value]
        if form == "sentence":
            return self.sentences[value]
        if form == "titles":
            return [self.titles[row] for row in value]
        if form == "rated":
            return [np.append(self.titles[row], self.text_tokens(f": {rating}")) for row, rating in value]
        return self._lettered(value)

    def _record_prompt(self, text: str) -> np.ndarray:
        """A record's prompt; of a long one the middle is left out: it begins with the instruction and ends with the question."""
        tokens = np.asarray(plain_tokens([text], self.tokenizer)[0], dtype=np.int64)
        room = self.max_prompt_tokens - self.templates[RECORD].fixed_length
        if len(tokens) <= room:
            return tokens
        return np.concatenate([tokens[: room // 2], tokens[len(tokens) - (room - room // 2) :]])

    def _lettered(self, rows: Sequence[int]) -> np.ndarray:
        """All candidates, one a line. Long titles are shortened alike, so that half of the prompt is left for the rest."""
        marks = [self.text_tokens(f"{LETTERS[index]}. ") for index in range(len(rows))]
        titles = [self.titles[row] for row in rows]
        fixed = sum(len(mark) + len(self.separator) for mark in marks)
        room = self.max_prompt_tokens // 2 - fixed
        if sum(map(len, titles)) > room:
            titles = [title[: max(1, room // len(rows))] for title in titles]
        return np.concatenate([part for mark, title in zip(marks, titles) for part in (mark, title, self.separator)])


def group_by_length(lengths: Sequence[int], most: int, shortest: float = 0.75) -> list[list[int]]:
    """Group rows so that none is shorter than `shortest` times its group's longest: little is spent on padding.

    Args:
        lengths: tokens of each row.
        most: tokens of a padded group; a row that is longer is a group of its own.
        shortest: see above.

    Returns:
        Indices of the rows, longest group first; every row once.
    """
    groups: list[list[int]] = []
    for index in sorted(range(len(lengths)), key=lambda row: -lengths[row]):
        longest = lengths[groups[-1][0]] if groups else 0
        if groups and lengths[index] >= shortest * longest and (len(groups[-1]) + 1) * longest <= most:
            groups[-1].append(index)
        else:
            groups.append([index])
    return groups
