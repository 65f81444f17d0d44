"""Atomic files to sentences, prompts and token tables."""

from recbole_recfound.atomic.read import AtomicTable, read_atomic
from recbole_recfound.data.text.catalogue import Catalogue, build_catalogue
from recbole_recfound.data.text.fields import choose_fields
from recbole_recfound.data.text.items import ItemTexts
from recbole_recfound.data.text.prompt import PromptTemplate, Tokens
from recbole_recfound.data.text.tokens import TokenTable, plain_tokens

__all__ = [
    "AtomicTable",
    "Catalogue",
    "ItemTexts",
    "PromptTemplate",
    "TokenTable",
    "Tokens",
    "build_catalogue",
    "choose_fields",
    "plain_tokens",
    "read_atomic",
]
