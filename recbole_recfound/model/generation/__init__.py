"""Batched generation under each task's route, free or constrained to a set of texts."""

from recbole_recfound.model.generation.constraint import HoldToTrie
from recbole_recfound.model.generation.generate import Generator, trie_of
from recbole_recfound.model.generation.likelihood import log_likelihoods
from recbole_recfound.model.generation.ranking import GenerativeRanking
from recbole_recfound.model.generation.trie import TokenTrie

__all__ = ["GenerativeRanking", "Generator", "HoldToTrie", "TokenTrie", "log_likelihoods", "trie_of"]
