"""Batched generation: prompts of similar length together, each row under the route of its task."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, cast

import numpy as np
import torch
from peft import PeftModel
from torch import nn
from torch.nn import functional as F
from transformers import GenerationConfig, LogitsProcessorList, PreTrainedTokenizerBase

from recbole_recfound.adapter import TASKS_ARGUMENT, routing
from recbole_recfound.backbone import decode, decoder_of, full_precision, head_of
from recbole_recfound.backbone.head import scaled_logits
from recbole_recfound.data.padding import pad_tokens
from recbole_recfound.data.text import plain_tokens
from recbole_recfound.model.generation.constraint import HoldToTrie
from recbole_recfound.model.generation.trie import TokenTrie


class Generator:
    """Generate answers to prompts, greedily or by beam search.

    The backbone's `generation_config` (temperature, penalties, forbidden words, ...) has no effect.

    Args:
        adapted: backbone with adapter.
        tokenizer: of the backbone.
        device: where the model is.
        beams: 1 is greedy.
        batch_rows: prompts answered at once, beams counted.
    """

    def __init__(
        self,
        adapted: PeftModel,
        tokenizer: PreTrainedTokenizerBase,
        device: torch.device,
        beams: int = 1,
        batch_rows: int = 16,
    ) -> None:
        self.adapted = adapted
        self.tokenizer = tokenizer
        self.device = device
        self.beams = beams
        self.batch_rows = batch_rows

    def answers(
        self, prompts: Sequence[np.ndarray], tasks: Sequence[str], max_new_tokens: int, trie: TokenTrie | None = None
    ) -> list[str]:
        """Answer prompts.

        Args:
            prompts: token ids of each, at least one token.
            tasks: task of each prompt; decides its route.
            max_new_tokens: longest answer.
            trie: the only texts allowed, or None.

        Returns:
            One text per prompt, in their order.
        """
        written = self.tokens(prompts, tasks, max_new_tokens, trie)
        # One row of tokens gives one text.
        return [cast(str, self.tokenizer.decode(row, skip_special_tokens=True)).strip() for row in written]

    @torch.no_grad()
    def tokens(
        self, prompts: Sequence[np.ndarray], tasks: Sequence[str], max_new_tokens: int, trie: TokenTrie | None = None
    ) -> list[list[int]]:
        """Generate like `answers`, and return token ids without the end token.

        Args:
            prompts: token ids of each, at least one token.
            tasks: task of each prompt; decides its route.
            max_new_tokens: longest answer, in tokens.
            trie: the only texts allowed, or None.
        """
        written: list[list[int]] = [[] for _ in prompts]
        # Similar lengths share a batch, to save padding.
        order = sorted(range(len(prompts)), key=lambda row: -len(prompts[row]))
        size = max(1, self.batch_rows // self.beams)
        with self._ready():
            for start in range(0, len(order), size):
                rows = order[start : start + size]
                batch = self._batch([prompts[row] for row in rows], [tasks[row] for row in rows], max_new_tokens, trie)
                for row, tokens in zip(rows, batch, strict=True):
                    written[row] = tokens
        return written

    @torch.no_grad()
    def margins(self, prompts: Sequence[np.ndarray], tasks: Sequence[str], first: int, second: int) -> np.ndarray:
        """Return how much likelier an answer begins with one token than with another.

        Args:
            prompts: token ids of each.
            tasks: task of each prompt.
            first: id of the first token.
            second: id of the token to compare with.

        Returns:
            [prompts] log p(first) - log p(second), float32.
        """
        found = np.zeros(len(prompts), dtype=np.float32)
        order = sorted(range(len(prompts)), key=lambda row: -len(prompts[row]))
        model = self.adapted.get_base_model()
        decoder, head = decoder_of(model), head_of(model)
        weight = head.weight[[first, second]].float()
        bias = None if head.bias is None else head.bias[[first, second]].float()
        with self._ready():
            for start in range(0, len(order), self.batch_rows):
                rows = order[start : start + self.batch_rows]
                ids, mask = self._padded([prompts[row] for row in rows])
                with routing(self.adapted, [tasks[row] for row in rows]):
                    states = decode(decoder, decoder.embed_tokens(ids), mask)[:, -1]
                # In bf16 the two logits would be rounded to eighths, and most margins would be equal.
                with full_precision(self.device):
                    logits = scaled_logits(model, F.linear(states.float(), weight, bias))
                found[rows] = (logits[:, 0] - logits[:, 1]).cpu().numpy()
        return found

    def _padded(self, prompts: Sequence[np.ndarray]) -> tuple[torch.Tensor, torch.Tensor]:
        ids, mask = pad_tokens(prompts, self.tokenizer.pad_token_id, left=True)
        return torch.from_numpy(ids).to(self.device), torch.from_numpy(mask).to(self.device)

    def _batch(
        self, prompts: Sequence[np.ndarray], tasks: list[str], max_new_tokens: int, trie: TokenTrie | None
    ) -> list[list[int]]:
        end = self.tokenizer.eos_token_id
        ids, mask = self._padded(prompts)
        held = LogitsProcessorList([HoldToTrie(trie, ids.shape[1])] if trie else [])
        if trie:
            # The longest text, and the end token that follows it.
            max_new_tokens = len(trie.widths)
        # Of given texts the beams' likeliest wins, however long; a free text's score is its mean per token. Greedy has
        # no score.
        length_penalty = 0.0 if trie and self.beams > 1 else 1.0
        output = self.adapted.generate(
            input_ids=ids,
            attention_mask=mask,
            generation_config=explicit_config(self.tokenizer, max_new_tokens, self.beams, length_penalty),
            logits_processor=held,
            **{TASKS_ARGUMENT: tasks},
        )
        rows = output[:, ids.shape[1] :].tolist()
        return [row[: row.index(end)] if end in row else row for row in rows]

    @contextmanager
    def _ready(self) -> Iterator[None]:
        """Enter evaluation mode with neutral defaults, which otherwise come from the model's generation config."""
        models: tuple[Any, Any] = (self.adapted, self.adapted.get_base_model())
        own = [model.generation_config for model in models]
        training = self.adapted.training
        self.adapted.eval()
        for model in models:
            model.generation_config = GenerationConfig()
        packed = head_of(models[1]).register_forward_pre_hook(_packed)
        try:
            yield
        finally:
            packed.remove()
            self.adapted.train(training)
            for model, config in zip(models, own, strict=True):
                model.generation_config = config


def _packed(head: nn.Module, states: tuple[torch.Tensor]) -> tuple[torch.Tensor]:
    """Return the states of the prompts' last tokens, in one piece.

    As a slice of all states they would be multiplied row by row, each on a CPU with a copy of the head's weights.
    """
    return (states[0].contiguous(),)


def explicit_config(
    tokenizer: PreTrainedTokenizerBase, max_new_tokens: int, beams: int, length_penalty: float
) -> GenerationConfig:
    """Return the configuration of greedy or beam search with every other feature off.

    Args:
        tokenizer: gives the ids of the begin, end and padding tokens.
        max_new_tokens: longest answer, in tokens.
        beams: 1 is greedy.
        length_penalty: exponent of the length by which a beam's score is divided; greedy search ignores it.
    """
    return GenerationConfig(
        do_sample=False,
        num_beams=beams,
        num_beam_groups=1,
        num_return_sequences=1,
        max_new_tokens=max_new_tokens,
        min_new_tokens=0,
        early_stopping=False,
        length_penalty=length_penalty,
        repetition_penalty=1.0,
        encoder_repetition_penalty=1.0,
        no_repeat_ngram_size=0,
        temperature=1.0,
        top_k=50,
        top_p=1.0,
        typical_p=1.0,
        epsilon_cutoff=0.0,
        eta_cutoff=0.0,
        renormalize_logits=False,
        remove_invalid_values=False,
        use_cache=True,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )


def trie_of(texts: Sequence[str], tokenizer: PreTrainedTokenizerBase, device: torch.device) -> TokenTrie:
    """Build the trie of some texts as the model generates them.

    Args:
        texts: the texts that are allowed.
        tokenizer: of the backbone.
        device: where the trie is used.
    """
    return TokenTrie(plain_tokens(texts, tokenizer), tokenizer.eos_token_id, device)
