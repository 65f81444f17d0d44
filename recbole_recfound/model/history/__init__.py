"""History modes: how a user's history enters the language model."""

from recbole_recfound.model.history import soft_tokens, text_positions, text_prompt
from recbole_recfound.model.history.base import HISTORIES, History, SequenceHistory, history_of

__all__ = ["HISTORIES", "History", "SequenceHistory", "history_of", "soft_tokens", "text_positions", "text_prompt"]
