"""What holding generation to a catalogue costs, and what batching gains.

    python -m benchmarks.generation --json generation.json

Every ratio is a median over rounds in which both sides are timed one after the other. On a CPU one thread is used and
its CPU time is counted; on another device, wall time after synchronisation. The backbone has SmolLM2-135M's shape and
random weights, with TMoLE; the catalogue's texts have random tokens and one length, so that both sides write equally
many tokens.

Ratios:
    constrained_over_free  tokens per second when held to the catalogue, over free `generate`
    batched_over_single    tokens per second of one batch, over the same prompts one at a time
    large_over_small_mask  time of one masked step with 100 times as many texts (1: it does not grow)
"""

from __future__ import annotations

import sys
from collections.abc import Callable

import numpy as np
import torch
from transformers import LlamaForCausalLM

from benchmarks.frame import Mark, Ratios, finish, in_turn, options
from benchmarks.tmole import SHAPE
from recbole_recfound.adapter import build_adapter
from recbole_recfound.data.task import task_table
from recbole_recfound.model.generation import Generator, HoldToTrie, TokenTrie

MARKS = {"constrained_over_free": Mark(0.9, least=True)}


class Bench:
    """A backbone, prompts, and a catalogue of texts of one length.

    Args:
        device: where to run.
        dtype: of the backbone.
        rows: prompts of a batch.
        length: tokens of a prompt.
        items: texts of the catalogue.
        title: tokens of a text.
        layers: decoder layers.
    """

    def __init__(
        self, device: torch.device, dtype: torch.dtype, rows: int, length: int, items: int, title: int, layers: int
    ) -> None:
        self.device, self.title = device, title
        SHAPE.num_hidden_layers = layers
        torch.manual_seed(0)
        adapted = build_adapter(LlamaForCausalLM(SHAPE).to(device, dtype), "tmole", task_table()).eval()
        self.rng = np.random.default_rng(0)
        self.prompts = [self.rng.integers(3, SHAPE.vocab_size, length) for _ in range(rows)]
        self.batched = Generator(adapted, _EndOnly(), device, batch_rows=rows)
        self.single = Generator(adapted, _EndOnly(), device, batch_rows=1)
        self.texts = self.catalogue(items)
        self.trie = self.trie_of(self.texts)

    def catalogue(self, items: int) -> np.ndarray:
        """Random texts, int64 [items, tokens]; first tokens repeat, as in titles."""
        texts = self.rng.integers(3, SHAPE.vocab_size, (items, self.title))
        texts[:, 0] = self.rng.integers(3, 3003, items)
        return texts

    def trie_of(self, texts: np.ndarray) -> TokenTrie:
        """Return the constraint of answers to texts."""
        return TokenTrie(texts.tolist(), _EndOnly.eos_token_id, self.device)

    def writer(self, generator: Generator, trie: TokenTrie | None) -> Callable[[], None]:
        """Return a call that generates the same number of tokens for every prompt, constrained to the trie or free."""
        tasks = ["SR"] * len(self.prompts)
        return lambda: generator.tokens(self.prompts, tasks, self.title + 1, trie)

    def mask_step(self, texts: np.ndarray) -> Callable[[], None]:
        """Ten masks in the middle of texts: after a prompt of one token and the first two of a text."""
        hold = HoldToTrie(self.trie_of(texts), 1)
        begun = np.full((len(self.prompts), 3), 5)
        begun[:, 1:] = texts[self.rng.integers(0, len(texts), len(begun)), :2]
        ids = torch.from_numpy(begun).to(self.device)
        scores = torch.zeros(len(self.prompts), SHAPE.vocab_size, device=self.device)

        def run() -> None:
            for _ in range(10):
                hold(ids, scores)

        return run


class _EndOnly:
    """All that generating tokens asks of a tokenizer; the end token is one that random weights hardly ever write."""

    eos_token_id = pad_token_id = bos_token_id = 0


def measure(bench: Bench, seconds: float, items: int) -> Ratios:
    """Return all ratios."""
    held, free = bench.writer(bench.batched, bench.trie), bench.writer(bench.batched, None)
    single = bench.writer(bench.single, None)
    small, large = bench.mask_step(bench.texts[: max(1, items // 100)]), bench.mask_step(bench.texts)
    writing = in_turn({"held": held, "free": free, "single": single}, bench.device, 0.8 * seconds)
    masks = in_turn({"large": large, "small": small}, bench.device, 0.2 * seconds)
    return {
        "constrained_over_free": writing.ratio("free", "held"),
        "batched_over_single": writing.ratio("single", "free"),
        "large_over_small_mask": masks.ratio("large", "small"),
    }


def main(argv: list[str] | None = None) -> int:
    """Measure, print, write; 1 if the mark is missed."""
    given = options(
        __doc__,
        argv,
        200.0,
        rows=(16, 2, "prompts of a batch"),
        length=(64, 4, "tokens of a prompt"),
        items=(100_000, 200, "texts of the catalogue"),
        title=(12, 3, "tokens of a text"),
        layers=(6, 1, "decoder layers"),
    )
    dtype = getattr(torch, given.dtype)
    bench = Bench(given.device, dtype, given.rows, given.length, given.items, given.title, given.layers)
    return finish(measure(bench, given.seconds, given.items), MARKS, given)


if __name__ == "__main__":
    sys.exit(main())
