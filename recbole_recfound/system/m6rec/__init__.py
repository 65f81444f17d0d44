"""M6-Rec: a frozen language model that reads users, items and statistics as text."""

from recbole_recfound.system.m6rec.system import M6RecSystem

__all__ = ["M6RecSystem"]
