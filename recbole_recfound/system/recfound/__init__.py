"""RecFound: one LLM trained on embedding and generative tasks."""

from recbole_recfound.system.recfound.system import RecFoundSystem

__all__ = ["RecFoundSystem"]
