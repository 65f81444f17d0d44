"""States of text segments after the lower layers of a frozen decoder, each segment alone and computed once.

A segment restarts at position 0 and sees nothing but itself (M6-Rec, section 5), so that its states depend on its text
alone: the text of an item is encoded once for all users, and where the lower layers are frozen, once for a training.
"""

from __future__ import annotations

import hashlib
import json
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn
from transformers import PreTrainedTokenizerBase

from recbole_recfound.backbone.depth import Decoder, decode, first_layers
from recbole_recfound.data.text.tokens import plain_tokens
from recbole_recfound.errors import ConfigError, DataError, cause_of
from recbole_recfound.runtime.tensor_files import save_tensors, tensors_digest

ALL, LAST, MEAN = "all", "last", "mean"
"""States of a segment that are kept: of all tokens, of the last one, which has seen the others, or their mean."""
PASS_TOKENS = 2048
"""Tokens that run through the lower layers at a time."""
CONTENT = "sha256"
"""Digest of the other tensors of a file of states."""
Segment = str | tuple[int, ...]
"""A text, or its tokens, one at least."""


class SegmentCache:
    """Least-recently-used cache of segment states, computed on demand.

    Args:
        decoder: the frozen decoder.
        tokenizer: of the backbone; None: every segment is given as its tokens.
        depth: number L' of lower layers.
        states: `all`, `last` or `mean`.
        max_tokens: length of a segment; a longer text loses its end.
        fingerprint: of the backbone (`Backbone.fingerprint`).
        capacity: most bytes of states in memory; those of a file are read from it when they are needed.
        weights: those below that decide the states, where the layers have an adapter as well; None: all.
        plain: a context in which the layers below run without their adapter.

    Attributes:
        digest: of everything that decides the states of a text.
        hits, misses: requested segments whose states were, and were not, in memory or in a file.
        bytes: of the states in memory.

    Raises:
        ConfigError: no layer is left above or below.
    """

    def __init__(
        self,
        decoder: Decoder,
        tokenizer: PreTrainedTokenizerBase | None,
        depth: int,
        states: str = LAST,
        max_tokens: int = 48,
        fingerprint: str = "",
        capacity: int = 1 << 30,
        weights: Iterable[nn.Parameter] | None = None,
        plain: Callable[[], AbstractContextManager[None]] = nullcontext,
    ) -> None:
        if not 1 <= depth < len(decoder.layers):
            raise ConfigError(
                f"late interaction: {depth} layers below and {len(decoder.layers) - depth} joint layers: the backbone "
                f"has {len(decoder.layers)} layers, and each part needs at least one"
            )
        self.decoder, self.lower = decoder, first_layers(decoder, depth)
        self.tokenizer, self.states, self.max_tokens, self.capacity = tokenizer, states, max_tokens, capacity
        key = f"{fingerprint} {depth} {states} {max_tokens}"
        self.digest = hashlib.sha256(key.encode()).hexdigest()[:16]
        self.hits = self.misses = self.bytes = 0
        self._plain, self._deciding = plain, list(self.lower.parameters() if weights is None else weights)
        self._weights = self._weight_versions()
        self._known: OrderedDict[Segment, torch.Tensor] = OrderedDict()
        self._filed: dict[Segment, torch.Tensor] = {}  # mapped from a file

    def __len__(self) -> int:
        return len(self._known.keys() | self._filed.keys())

    @torch.no_grad()
    def get(self, texts: Sequence[Segment]) -> list[torch.Tensor]:
        """Return the states of segments, [tokens, d] each ([1, d] where only the last is kept).

        Args:
            texts: n segments.
        """
        self._forget_if_changed()
        asked = dict.fromkeys(texts)
        filed = self._from_file([text for text in asked if text not in self._known and text in self._filed])
        missing = [text for text in asked if text not in self._known and text not in filed]
        self.hits += len(texts) - len(missing)
        self.misses += len(missing)
        fresh = filed | dict(zip(missing, self._encode(missing), strict=True))
        for text in texts:
            if text in self._known:
                self._known.move_to_end(text)
        found = [fresh[text] if text in fresh else self._known[text] for text in texts]
        for text, states in fresh.items():
            if states is not self._filed.get(text):
                self._known[text] = states
                self.bytes += states.numel() * states.element_size()
        while self.bytes > self.capacity and self._known:
            _, states = self._known.popitem(last=False)
            self.bytes -= states.numel() * states.element_size()
        return found

    def _from_file(self, texts: Sequence[Segment]) -> dict[Segment, torch.Tensor]:
        device = self.decoder.embed_tokens.weight.device
        return {text: self._filed[text].to(device) for text in texts}

    def save(self, path: Path, others: Sequence[SegmentCache] = ()) -> None:
        """Write all states, those of a loaded file too, with a digest of them, to a safetensors file.

        Args:
            path: replaced when the new file is complete.
            others: further caches whose states are written, those of the same `digest`.

        Raises:
            OSError: the file cannot be written.
        """
        known: dict[Segment, torch.Tensor] = {}
        for cache in (self, *others):
            cache._forget_if_changed()
            if cache.digest == self.digest:
                known |= cache._filed | cache._known
        tensors = {
            "digest": _as_tensor(self.digest),
            "texts": _as_tensor(json.dumps(list(known))),
            "lengths": torch.tensor([len(own) for own in known.values()]),
            "states": torch.cat([own.cpu() for own in known.values()]) if known else torch.zeros(0),
        }
        save_tensors({**tensors, CONTENT: _as_tensor(tensors_digest(tensors))}, path)

    def load(self, path: Path) -> None:
        """Know the states of a file, which stay there until they are needed, after a check of its digest.

        Args:
            path: written by `save`.

        Raises:
            DataError: the file is damaged, or its states are those of other weights, layers or lengths.
        """
        try:
            tensors = load_file(path)
            written = _as_text(tensors.pop(CONTENT)) if CONTENT in tensors else "none"
            if written != tensors_digest(tensors):
                raise ValueError("its content is not that of its SHA-256")
            digest, texts = _as_text(tensors["digest"]), json.loads(_as_text(tensors["texts"]))
            parts = tensors["states"].split(tensors["lengths"].tolist()) if texts else []
        except (OSError, SafetensorError, KeyError, ValueError, RuntimeError) as error:
            raise DataError(
                f"{path} is no file of segment states, or a damaged one ({cause_of(error)}): delete it or name "
                "another file"
            ) from None
        if digest != self.digest:
            raise DataError(
                f"{path} holds states of another backbone, or of other late_args, max_tokens or first m6rec_task: "
                "delete it or name another file"
            )
        for text, own in zip(texts, parts, strict=True):
            self._filed[tuple(text) if isinstance(text, list) else text] = own

    def _weight_versions(self) -> list[tuple[int, int]]:
        """Return place and number of changes of every weight below.

        Any assignment raises the number; changes through `.data`, which torch itself does not count, are not seen.
        """
        return [(weight.data_ptr(), weight._version) for weight in self._deciding]

    def _forget_if_changed(self) -> None:
        """Drop all states, and the digest they are kept under, when a weight below has changed."""
        if (versions := self._weight_versions()) == self._weights:
            return
        self._weights, self.bytes = versions, 0
        self._known.clear()
        self._filed.clear()
        digest = hashlib.sha256(self.digest.encode())
        for weight in self._deciding:
            digest.update(weight.detach().cpu().contiguous().view(torch.uint8).numpy().tobytes())
        self.digest = digest.hexdigest()[:16]

    def _tokens(self, texts: Sequence[Segment]) -> list[list[int]]:
        """Return the tokens of segments, cut to `max_tokens`; an empty text is the end token."""
        strings, end = [text for text in texts if isinstance(text, str)], -1
        found: Iterator[list[int]] = iter(())
        if strings:
            assert self.tokenizer is not None, "texts need a tokenizer"
            found, end = iter(plain_tokens(strings, self.tokenizer)), self.tokenizer.eos_token_id
        whole = [next(found) or [end] if isinstance(text, str) else list(text) for text in texts]
        return [ids[: self.max_tokens] for ids in whole]

    def _encode(self, texts: Sequence[Segment]) -> list[torch.Tensor]:
        """Run segments through the lower layers, those of one length together: no padding and no mask."""
        tokens = self._tokens(texts)
        by_length: dict[int, list[int]] = {}
        for row, ids in enumerate(tokens):
            by_length.setdefault(len(ids), []).append(row)
        states: dict[int, torch.Tensor] = {}
        for length, rows in by_length.items():
            size = max(1, PASS_TOKENS // length)
            for start in range(0, len(rows), size):
                part = rows[start : start + size]
                batch = torch.tensor([tokens[row] for row in part], device=self.decoder.embed_tokens.weight.device)
                with self._plain():
                    hidden = decode(self.lower, self.decoder.embed_tokens(batch))
                for row, own in zip(part, _kept(hidden, self.states), strict=True):
                    states[row] = own.clone()  # a view would keep the whole batch
        return [states[row] for row in range(len(texts))]


class SegmentFile:
    """A file of segment states that the caches of a run read, and write together.

    Args:
        path: of the file.
        states: form of its states, see `SegmentCache`.
    """

    def __init__(self, path: Path, states: str) -> None:
        self.path, self.states = path, states
        self._caches: list[SegmentCache] = []
        self._failed = False

    def open(self, cache: SegmentCache) -> None:
        """Read the states for a cache, whose own `save` writes from now on; one of another form is left as it is.

        Args:
            cache: of one of the run's language models, which have the same lower layers.

        Raises:
            DataError: the file is damaged, or its states are those of another backbone.
        """
        if cache.states != self.states or cache in self._caches:
            return
        if self.path.exists():
            cache.load(self.path)
        self._caches.append(cache)

    def save(self) -> None:
        """Write the states of all caches; a file that cannot be written is a note, since the run can do without it."""
        if not self._caches:
            return
        try:
            self._caches[0].save(self.path, self._caches[1:])
        except OSError as error:
            if not self._failed:
                print(
                    f"note: late_args: cache_file: {self.path} cannot be written; the run continues without it: "
                    f"{error.strerror or cause_of(error)}",
                    flush=True,
                )
            self._failed = True


def _kept(hidden: torch.Tensor, states: str) -> torch.Tensor:
    """Return the states of segments [B, T, d] that are kept, [B, 1 or T, d]."""
    return {ALL: hidden, LAST: hidden[:, -1:], MEAN: hidden.mean(1, keepdim=True)}[states]


def _as_tensor(text: str) -> torch.Tensor:
    return torch.frombuffer(bytearray(text.encode("utf-8")), dtype=torch.uint8)


def _as_text(tensor: torch.Tensor) -> str:
    return tensor.cpu().numpy().tobytes().decode("utf-8")
