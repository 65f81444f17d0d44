"""Constrained generation: only texts of a trie, without a loop over rows, beams or the vocabulary."""

import torch
from transformers import LogitsProcessor

from recbole_recfound.model.generation.trie import TokenTrie


class HoldToTrie(LogitsProcessor):
    """Mask all tokens that do not continue a text of the trie, in every row of every step.

    A step costs a few gathers on [rows, widest node] and one mask on [rows, vocabulary], for a catalogue of any size.
    Rows are walked from the root each time, since beam search reorders them.

    Args:
        trie: the texts.
        prompt_length: tokens of the padded prompt; the tokens after it are walked.
    """

    def __init__(self, trie: TokenTrie, prompt_length: int) -> None:
        self.trie = trie
        self.prompt_length = prompt_length

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        """Mask `scores` [rows, vocabulary] after `input_ids` [rows, T]."""
        trie, level = self.trie, input_ids.shape[1] - self.prompt_length
        node = torch.zeros(len(input_ids), dtype=torch.long, device=input_ids.device)
        for at in range(level):
            node = trie.step(node, input_ids[:, self.prompt_length + at], at)
        tokens, _, present = trie.children(node.clamp(min=0), level)
        # Finished rows are outside the trie; keep emitting EOS for them.
        present = present & (node >= 0).unsqueeze(1)
        ended = ~present.any(1, keepdim=True)
        tokens = torch.cat([tokens, torch.full_like(ended, trie.end, dtype=torch.long)], dim=1)
        present = torch.cat([present, ended], dim=1)
        # Missing children are written to an extra column after the vocabulary.
        vocabulary = scores.shape[1]
        closed = torch.ones(len(scores), vocabulary + 1, dtype=torch.bool, device=scores.device)
        closed.scatter_(1, tokens.masked_fill(~present, vocabulary), False)
        return scores.masked_fill(closed[:, :vocabulary], float("-inf"))
