"""Atomic files to sentences, prompts and token tables."""

from recbole_recfound.atomic.read import AtomicTable, read_atomic
from recbole_recfound.data.text.catalogue import Catalogue, build_catalogue
from recbole_recfound.data.text.fields import choose_fields
from recbole_recfound.data.text.prompt import PromptTemplate
from recbole_recfound.data.text.tokens import TokenTable, pad, pad_tokens, plain_tokens, rounded_up

__all__ = [
    "AtomicTable",
    "Catalogue",
    "PromptTemplate",
    "TokenTable",
    "build_catalogue",
    "choose_fields",
    "pad",
    "pad_tokens",
    "plain_tokens",
    "rounded_up",
    "read_atomic",
]
