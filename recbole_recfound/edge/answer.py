"""Recommendations of an exported student by onnxruntime and tokenizers alone.

This module imports neither torch nor transformers, nor modules that do.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from tokenizers import Tokenizer

from recbole_recfound.edge.tokens import PADDING, SegmentTokens, Vocabulary
from recbole_recfound.errors import ConfigError, DataError
from recbole_recfound.runtime.arguments import checked_count, checked_list, short
from recbole_recfound.runtime.file_digests import DIGESTS, check_digests

FORMAT = 1
"""Version of the layout of a folder."""
SETTINGS, TEXTS, TOKENIZER, VOCABULARY = "edge.json", "texts.json", "tokenizer.json", "vocabulary.json"
"""Settings; segments of items and histories; the backbone's tokenizer; its kept ids, in the order of the student's."""
CHUNK = 8
"""Targets that are scored at a time: attention over more of them leaves the caches of a CPU."""
WIDTH_STEP = 8
"""Widths of batches are multiples of it: few shapes."""


def graph_name(layer: int) -> str:
    """Return the name of the graph of an exit.

    Args:
        layer: of the exit.
    """
    return f"exit{layer}.onnx"


class ExitSession:
    """The graph of one exit.

    Args:
        path: of the graph.
        threads: of onnxruntime; 0: as many as there are cores.
    """

    def __init__(self, path: Path, threads: int = 0) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = 3
        self._session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])

    def run(self, sources: Sequence[Sequence[int]], targets: Sequence[Sequence[Sequence[int]]]) -> np.ndarray:
        """Return the probabilities of targets, by source, float32 [n].

        Args:
            sources: token ids of each source.
            targets: of each source, token ids of its targets.
        """
        source_of = np.repeat(np.arange(len(sources)), [len(own) for own in targets])
        rows = [target for own in targets for target in own]
        found = np.empty(len(rows), dtype=np.float32)
        order = sorted(range(len(rows)), key=lambda row: (source_of[row], len(rows[row])))
        for start in range(0, len(order), CHUNK):
            part = order[start : start + CHUNK]
            named, local = np.unique(source_of[part], return_inverse=True)
            given = {
                "sources": _padded([sources[number] for number in named], 1),
                "targets": _padded([rows[row] for row in part], WIDTH_STEP),
                "source_of": local.reshape(-1).astype(np.int64),
            }
            found[part] = self._session.run(None, given)[0]
        return found


class EdgeRecommender:
    """A student that ranks items for a history of item tokens.

    Args:
        folder: written by `recfound distill`.
        exit_layer: layer that answers; None: the last one.
        threads: of onnxruntime; 0: as many as there are cores.

    Attributes:
        exits: layers that can answer.
        tokens: tokens of all items.

    Raises:
        ConfigError: no such folder, or no such exit.
        DataError: files are missing or damaged.
    """

    def __init__(self, folder: str | Path, exit_layer: int | None = None, threads: int = 0) -> None:
        folder = Path(folder)
        if not (folder / SETTINGS).is_file() or not (folder / DIGESTS).is_file():
            raise ConfigError(f"{folder} was not written by recfound distill (it has no {SETTINGS} with {DIGESTS})")
        try:
            check_digests(folder)
        except DataError as error:
            raise DataError(f"{folder}: {error}: copy it again, or distil again") from None
        settings = _read(folder / SETTINGS)
        if settings["format"] != FORMAT:
            raise ConfigError(f"{folder}: format {settings['format']}, expected {FORMAT}: distil again")
        self.exits: list[int] = settings["exits"]
        if exit_layer is not None and exit_layer not in self.exits:
            raise ConfigError(f"exit: got {exit_layer}, expected one of {', '.join(map(str, self.exits))}")
        self._behaviours, self._masks_history = settings["behaviours"], settings["masks_history"]
        texts = _read(folder / TEXTS)
        self._segments: list[str] = texts["segments"]
        self._profile, self._behaviour = texts["profile"], texts["behaviour"]
        self._of_item = {item["token"]: item for item in texts["items"]}
        self.tokens = list(self._of_item)
        self._reader = SegmentTokens(Tokenizer.from_file(str(folder / TOKENIZER)), settings["max_tokens"])
        self._reader.add(self._segments)
        self._vocabulary = Vocabulary(_read(folder / VOCABULARY))
        self._targets = {token: self._ids(item["target"]) for token, item in self._of_item.items()}
        self._session = ExitSession(folder / graph_name(exit_layer or self.exits[-1]), threads)

    def recommend(
        self,
        history: Iterable[str],
        k: int = 10,
        exclude: Iterable[str] = (),
        candidates: Iterable[str] | None = None,
    ) -> list[tuple[str, str, float]]:
        """Rank items for a history.

        Args:
            history: item tokens, oldest first.
            k: most items returned.
            exclude: item tokens that are left out.
            candidates: item tokens to choose from; None: all that anybody has chosen in the data.

        Returns:
            Item token, text and score of each item, best first.

        Raises:
            ConfigError: unknown tokens, a text or a set in place of a list, an empty history, or k below 1.
        """
        k = checked_count("k", k)
        history = self._known("history", checked_list("history", history, ordered=True))
        left_out = {
            *self._known("exclude", checked_list("exclude", exclude, allow_empty=True)),
            *(history if self._masks_history else ()),
        }
        named = None
        if candidates is not None:
            named = set(self._known("candidates", checked_list("candidates", candidates)))
        chosen = [
            token
            for token, item in self._of_item.items()
            if token not in left_out and (token in named if named is not None else not item["cold"])
        ]
        scores = self.scores(history, chosen)
        best = np.argsort(-scores, kind="stable")[:k]
        return [
            (chosen[place], self._segments[self._of_item[chosen[place]]["text"]], float(scores[place]))
            for place in best
        ]

    def scores(self, history: Sequence[str], items: Sequence[str]) -> np.ndarray:
        """Return the probability of a click on each item, float32 [n].

        Args:
            history: known item tokens, oldest first.
            items: n known item tokens.
        """
        return self._session.run([self.source_of(history)], [[self._targets[token] for token in items]])

    def source_of(self, history: Sequence[str]) -> list[int]:
        """Return the token ids of the source of an unknown user with a history.

        Args:
            history: known item tokens, oldest first.
        """
        recent = history[len(history) - min(len(history), self._behaviours) :]
        segments = [self._profile]
        for token in recent:
            segments += [self._behaviour, self._of_item[token]["text"]]
        return self._ids(segments)

    def target_of(self, token: str) -> list[int]:
        """Return the token ids of an item as a target.

        Args:
            token: of a known item.
        """
        return self._targets[token]

    def _ids(self, segments: Sequence[int]) -> list[int]:
        return self._vocabulary.ids(self._reader.joined([self._segments[number] for number in segments]))

    def _known(self, field: str, tokens: list[Any]) -> list[str]:
        unknown = [token for token in tokens if not isinstance(token, str) or token not in self._of_item]
        if unknown:
            hint = "" if all(isinstance(token, str) for token in unknown) else " (tokens are text)"
            raise ConfigError(f"{field}: unknown items: {', '.join(map(short, unknown[:5]))}{hint}")
        return tokens


def _read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def _padded(rows: Sequence[Sequence[int]], multiple: int) -> np.ndarray:
    """Return rows of token ids as int64 [B, T]."""
    width = -(-max(map(len, rows)) // multiple) * multiple
    found = np.full((len(rows), width), PADDING, dtype=np.int64)
    for row, own in zip(found, rows, strict=True):
        row[: len(own)] = own
    return found
