"""Three users and six films, small enough to check every example by hand."""

import numpy as np

from recbole_recfound.data.task import TrainingData
from recbole_recfound.data.text import Catalogue

TITLES = ["Alien", "Aliens", "Heat", "Heat wave", "Big", "Big fish"]
YEARS = ["1979", "1986", "1995", "2009", "1988", "2003"]


def catalogue(size: int = 6, described: bool = True) -> Catalogue:
    """Films 0 to size - 1; the last one is known from held-out rows only."""
    values = [{"title": TITLES[row], "year": YEARS[row]} if described else {} for row in range(size)]
    long = [{"plot": f"{TITLES[row]} was made. " * 30} if row == 0 and described else {} for row in range(size)]
    return Catalogue([f"i{row}" for row in range(size)], ["title", "year"], values, size - 1, long)


def training_data(histories=None, ratings=None, queries=(), described=True, size=6) -> TrainingData:
    """Users u0, u1, ... with the given histories (default: 0 1 2 | 1 2 | 4)."""
    histories = [[0, 1, 2], [1, 2], [4]] if histories is None else histories
    return TrainingData(
        catalogue=catalogue(size, described),
        users=[f"u{index}" for index in range(len(histories))],
        indptr=np.cumsum([0, *map(len, histories)]),
        items=np.array([item for history in histories for item in history], dtype=np.int64),
        ratings=None if ratings is None else np.array(ratings, dtype=np.float32),
        queries=list(queries),
        seed=7,
    )
