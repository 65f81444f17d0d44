"""Fields of items and users as text."""

from collections.abc import Mapping

import numpy as np

from recbole_recfound.data.task.source import TrainingData
from recbole_recfound.data.text.fields import readable


def details(source: TrainingData, row: int) -> dict[str, str]:
    """Return the short fields of an item besides its title.

    Args:
        source: training data.
        row: catalogue index.
    """
    catalogue = source.catalogue
    return {name: value for name, value in catalogue.values[row].items() if name != catalogue.title}


def has_title(source: TrainingData, row: int) -> bool:
    """Return whether an item has a title of its own.

    Args:
        source: training data.
        row: catalogue index.
    """
    title = source.catalogue.title
    return title is not None and bool(source.catalogue.values[row].get(title))


def sentences(fields: Mapping[str, str]) -> str:
    """Return fields as sentences, as in `Year: 1979. Genre: horror`."""
    return " ".join(f"{readable(name).capitalize()}: {value}." for name, value in fields.items())


def first_words(text: str, count: int) -> str:
    """Return the first `count` words of a text.

    Args:
        text: words separated by blanks.
        count: most words.
    """
    return " ".join(text.split()[:count])


def number(value: float) -> str:
    """Return a number of single precision, others than it in other words: 4.0 -> '4', 3.5 -> '3.5'."""
    return np.format_float_positional(np.float32(value), trim="-")
