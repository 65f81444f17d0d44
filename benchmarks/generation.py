"""What holding generation to a catalogue costs, and what batching gains.

    python -m benchmarks.generation --json generation.json

Every ratio is a median over rounds in which both sides are timed one after the other. On a CPU one thread is used and
its CPU time is counted; on another device, wall time after synchronisation. The backbone has SmolLM2-135M's shape and
random weights, with TMoLE; the catalogue's texts have random tokens and one length, so that both sides write equally
many tokens.

Ratios:
    constrained_over_free  tokens per second when held to the catalogue, over free `generate`      (mark: >= 0.9)
    batched_over_single    tokens per second of one batch, over the same prompts one at a time
    large_over_small_mask  time of one masked step with 100 times as many texts (1: it does not grow)
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from transformers import LlamaForCausalLM

from benchmarks.report import write_report
from benchmarks.tmole import SHAPE
from recbole_recfound.adapter import build_adapter
from recbole_recfound.data.task import task_table
from recbole_recfound.model.generation import Generator, HoldToTrie, TokenTrie

MARK = 0.9


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

    def seconds(self, job: Callable[[], None]) -> float:
        """CPU seconds on a CPU, wall seconds elsewhere."""
        host = self.device.type == "cpu"
        clock = time.process_time if host else time.perf_counter
        started = clock()
        job()
        if not host:
            torch.accelerator.synchronize(self.device)
        return clock() - started

    def ratio(self, job: Callable[[], None], reference: Callable[[], None], repeats: int) -> float:
        """Median of the reference's seconds over the job's."""
        job(), reference()
        pairs = [(self.seconds(job), self.seconds(reference)) for _ in range(repeats)]
        return statistics.median(other / own for own, other in pairs)


class _EndOnly:
    """All that generating tokens asks of a tokenizer; the end token is one that random weights hardly ever write."""

    eos_token_id = pad_token_id = bos_token_id = 0


def measure(bench: Bench, repeats: int, items: int) -> dict[str, float]:
    """All ratios."""
    held, free = bench.writer(bench.batched, bench.trie), bench.writer(bench.batched, None)
    small, large = bench.mask_step(bench.texts[: max(1, items // 100)]), bench.mask_step(bench.texts)
    return {
        "constrained_over_free": bench.ratio(held, free, repeats),
        "batched_over_single": bench.ratio(free, bench.writer(bench.single, None), max(1, repeats // 2)),
        "large_over_small_mask": bench.ratio(small, large, 5 * repeats),
    }


def main(argv: list[str] | None = None) -> int:
    """Measure, print, write; 1 if the mark is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, help="write the ratios to this file")
    parser.add_argument("--device", type=torch.device, default=torch.get_default_device(), help="where to run")
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="bfloat16", help="of the backbone")
    parser.add_argument("--rows", type=int, default=16, help="prompts of a batch")
    parser.add_argument("--length", type=int, default=64, help="tokens of a prompt")
    parser.add_argument("--items", type=int, default=100_000, help="texts of the catalogue")
    parser.add_argument("--title", type=int, default=12, help="tokens of a text")
    parser.add_argument("--layers", type=int, default=30, help="decoder layers")
    parser.add_argument("--repeats", type=int, default=5, help="timed rounds")
    options = parser.parse_args(argv)
    torch.set_num_threads(1)
    dtype = getattr(torch, options.dtype)
    bench = Bench(options.device, dtype, options.rows, options.length, options.items, options.title, options.layers)
    ratios = measure(bench, options.repeats, options.items)
    for name, ratio in ratios.items():
        print(f"{name:24s} {ratio:6.3f}" + (f"  (mark: >= {MARK})" if name == "constrained_over_free" else ""))
    if options.json:
        write_report(options.json, ratios, options)
    return int(ratios["constrained_over_free"] < MARK)


if __name__ == "__main__":
    sys.exit(main())
