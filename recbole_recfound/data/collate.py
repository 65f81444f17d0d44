"""Collation of examples: prompts are filled, rows are padded."""

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, cast

import numpy as np
import torch
from transformers import PreTrainedTokenizerBase

from recbole_recfound.data.batches import GenerativeBatch, PairBatch, Part, SequenceBatch
from recbole_recfound.data.history import HistoryCollator, Indices, text_batch
from recbole_recfound.data.padding import pad_tokens
from recbole_recfound.data.record_pairs import record_pairs
from recbole_recfound.data.task import GenerativeExample, PairExample, RecordPairExample, SequenceExample
from recbole_recfound.data.task.answers import LETTERS
from recbole_recfound.data.task.examples import Example
from recbole_recfound.data.text import ItemTexts, PromptTemplate, Tokens, plain_tokens

IGNORED = -100
RECORD = "record"
"""Name of the template around the prompt of a JSON-lines record, whatever its task."""


class Collator:
    """Collate examples of one form to batches.

    Args:
        texts: token tables of the items.
        tokenizer: of the backbone.
        templates: compiled prompt of each task that has one, and of `RECORD`.
        history: mode in which histories are collated.
        max_prompt_tokens: length of a prompt; histories and long texts are cut, choices and answers never.
        max_pass_tokens: tokens, padding included, of one batch of prompts with answers.
    """

    def __init__(
        self,
        texts: ItemTexts,
        tokenizer: PreTrainedTokenizerBase,
        templates: Mapping[str, PromptTemplate],
        history: HistoryCollator,
        max_prompt_tokens: int,
        max_pass_tokens: int,
    ) -> None:
        self.texts = texts
        self.tokenizer = tokenizer
        self.templates = templates
        self.history = history
        self.max_prompt_tokens = max_prompt_tokens
        self.max_history = history.source.max_items
        self.max_pass_tokens = max_pass_tokens
        self.separator = texts.separator
        # Answers and queries repeat (letters, ratings, one profile per item): tokenise each once.
        self.text_tokens = lru_cache(maxsize=1 << 16)(lambda text: tuple(plain_tokens([text], tokenizer)[0]))

    def __call__(
        self, tasks: Sequence[str], examples: Sequence[Example], draws: Sequence[np.random.Generator]
    ) -> list[Part]:
        """Collate examples of one form; prompts of very different length come as several batches.

        Args:
            tasks: task of each example.
            examples: all of the same class.
            draws: a generator per example, for windows of long histories.
        """
        first = examples[0]  # and all others have its class
        if isinstance(first, SequenceExample):
            sequences = cast(Sequence[SequenceExample], examples)
            rows = [self._window(e.items, rng) for e, rng in zip(sequences, draws, strict=True)]
            return [self.history.collate(list(tasks), rows)]
        if isinstance(first, PairExample):
            return [self.pairs(list(tasks), cast(Sequence[PairExample], examples))]
        if isinstance(first, RecordPairExample):
            records = cast(Sequence[RecordPairExample], examples)
            return [record_pairs(list(tasks), records, self.tokenizer, self.max_prompt_tokens)]
        return [*self.generative(list(tasks), cast(Sequence[GenerativeExample], examples))]

    def _window(self, items: Sequence[int], rng: np.random.Generator) -> Sequence[int]:
        """Return the whole sequence, or a random window of it if it exceeds the history limit."""
        spare = len(items) - (self.max_history + 1)
        start = int(rng.integers(spare + 1)) if spare > 0 else 0
        return items[start : start + self.max_history + 1]

    def held_out(
        self, tasks: list[str], histories: Sequence[np.ndarray], answers: np.ndarray
    ) -> SequenceBatch | PairBatch:
        """Collate histories with one held-out answer each: only the last position counts, or one prompt per history.

        Args:
            tasks: task of each row.
            histories: catalogue indices, oldest first.
            answers: [B] catalogue index of each held-out item.
        """
        return self.history.held_out(self, tasks, histories, answers)

    def pairs(self, tasks: list[str], examples: Sequence[PairExample]) -> PairBatch:
        """Collate queries with the distinct items of the batch.

        Args:
            tasks: task of each example.
            examples: B pairs.
        """
        wanted = [(task, row) for task, e in zip(tasks, examples, strict=True) for row in (e.positive, *e.negatives)]
        items = {key: index for index, key in enumerate(dict.fromkeys(wanted))}
        allowed = np.zeros((len(tasks), len(items)), dtype=bool)
        item_task = np.array([task for task, _ in items])
        item_row = np.array([row for _, row in items], dtype=np.int64)
        for index, (task, example) in enumerate(zip(tasks, examples, strict=True)):
            allowed[index] = (item_task == task) & ~np.isin(item_row, example.known)
            allowed[index, items[task, example.positive]] = True
        positive = np.array([items[task, example.positive] for task, example in zip(tasks, examples, strict=True)])
        query_ids, query_mask, query_text = self.queries(tasks, [example.query for example in examples])
        item_ids, item_mask, item_text = self.item_texts(item_row)
        return PairBatch(
            tasks,
            query_ids,
            query_mask,
            query_text,
            [task for task, _ in items],
            item_ids,
            item_mask,
            item_text,
            positive=torch.from_numpy(positive),
            allowed=torch.from_numpy(allowed),
        )

    def queries(
        self, tasks: Sequence[str], queries: Sequence[str | int | tuple[int, ...]]
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Return tokens, mask and text mask of embedding queries; instruction tokens are not pooled.

        Args:
            tasks: task of each query.
            queries: B texts, catalogue indices or histories of catalogue indices.
        """
        filled = [self._query(task, query) for task, query in zip(tasks, queries, strict=True)]
        return text_batch(filled, self.tokenizer.pad_token_id)

    def _query(self, task: str, query: str | int | tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
        template = self.templates[task]
        if isinstance(query, str):
            return template.render({"query": self.text_tokens(query)}, self.max_prompt_tokens)
        if isinstance(query, tuple):
            return template.render({"history": [self.texts.titles[row] for row in query]}, self.max_prompt_tokens)
        return template.render({"item": self.texts.sentences[query]}, self.max_prompt_tokens)

    def item_texts(self, rows: Indices) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Return tokens, mask and text mask of items; an item's text has no instruction."""
        ids, real = pad_tokens([self.texts.sentences[int(row)] for row in rows], fill=self.tokenizer.pad_token_id)
        mask = torch.from_numpy(real)
        return torch.from_numpy(ids), mask, mask

    def generative(self, tasks: list[str], examples: Sequence[GenerativeExample]) -> list[GenerativeBatch]:
        """Collate prompts followed by answers, in batches of similar length; only answer and end token have targets.

        Args:
            tasks: task of each example.
            examples: prompts with their answers.
        """
        end = self.tokenizer.eos_token_id
        rows, labels = [], []
        for task, example in zip(tasks, examples, strict=True):
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
        """Return the token ids of the filled prompt, up to the answer.

        Args:
            task: name of the task.
            example: values of the slots.
        """
        template = self.templates[RECORD if "prompt" in example.slots else task]
        data = {name: self._slot(*slot) for name, slot in example.slots.items()}
        return template.render(data, self.max_prompt_tokens)[0]

    def _slot(self, form: str, value: Any) -> Tokens | list[Tokens]:
        if form == "text":
            return self.text_tokens(value)
        if form == "prompt":
            return self._record_prompt(value)
        if form == "title":
            return self.texts.titles[value]
        if form == "sentence":
            return self.texts.sentences[value]
        if form == "titles":
            return [self.texts.titles[row] for row in value]
        if form == "rated":
            return [np.append(self.texts.titles[row], self.text_tokens(f": {rating}")) for row, rating in value]
        return self._lettered(value)

    def _record_prompt(self, text: str) -> np.ndarray:
        """Return a record's prompt; a long one loses its middle: the instruction comes first and the question last."""
        tokens = np.asarray(plain_tokens([text], self.tokenizer)[0], dtype=np.int64)
        room = self.max_prompt_tokens - self.templates[RECORD].fixed_length
        if len(tokens) <= room:
            return tokens
        return np.concatenate([tokens[: room // 2], tokens[len(tokens) - (room - room // 2) :]])

    def _lettered(self, rows: Sequence[int]) -> np.ndarray:
        """Return all candidates, one per line; long titles are cut evenly, leaving half of the prompt for the rest."""
        marks = [self.text_tokens(f"{LETTERS[index]}. ") for index in range(len(rows))]
        titles = [self.texts.titles[row] for row in rows]
        fixed = sum(len(mark) + len(self.separator) for mark in marks)
        room = self.max_prompt_tokens // 2 - fixed
        if sum(map(len, titles)) > room:
            titles = [title[: max(1, room // len(rows))] for title in titles]
        parts = zip(marks, titles, strict=True)
        return np.concatenate([part for mark, title in parts for part in (mark, title, self.separator)])


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
