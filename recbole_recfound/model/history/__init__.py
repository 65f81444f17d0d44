"""History modes: how a user's history enters the language model. Each mode has its own file."""

from recbole_recfound.model.history.base import HISTORIES, History, SequenceHistory, history_of, register_history

__all__ = ["HISTORIES", "History", "SequenceHistory", "history_of", "register_history"]
