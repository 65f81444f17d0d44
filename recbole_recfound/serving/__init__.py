"""What a finished run can be asked."""

from recbole_recfound.serving.load import load_recfound

__all__ = ["load_recfound"]
