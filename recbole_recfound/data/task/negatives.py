"""Hard negatives: drawn without knowledge of held-out interactions, never among known training positives."""

import numpy as np
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.neighbors import NearestNeighbors

from recbole_recfound.data.text.catalogue import Catalogue


def draw_negatives(rng: np.random.Generator, count: int, pool: np.ndarray, known: np.ndarray) -> tuple[int, ...]:
    """Return distinct items that are not known positives.

    Args:
        rng: generator of the example.
        count: number of items.
        pool: [n] catalogue rows to draw from.
        known: excluded rows (training positives and the target).

    Returns:
        Up to `count` rows, fewer only if the pool has no more.
    """
    if len(pool) > 20 * (count + len(known)):
        return _by_rejection(rng, count, pool, known)
    rows = np.setdiff1d(pool, known)
    if len(rows) == 0:
        return ()
    return tuple(rng.choice(rows, size=min(count, len(rows)), replace=False).tolist())


def _by_rejection(rng: np.random.Generator, count: int, pool: np.ndarray, known: np.ndarray) -> tuple[int, ...]:
    """Draw more than needed from a large pool and drop known rows, until enough remain."""
    kept: list[int] = []
    while len(kept) < count:
        drawn = rng.choice(pool, size=2 * count)
        fresh = drawn[~np.isin(drawn, known)].tolist()
        kept = list(dict.fromkeys(kept + fresh))
    return tuple(kept[:count])


def nearest_titles(catalogue: Catalogue, pool: np.ndarray, count: int = 20) -> np.ndarray:
    """Return for each item of a pool the `count` others with the most similar titles (TF-IDF of words, cosine).

    Args:
        catalogue: all items.
        pool: [n] catalogue rows.
        count: neighbours per item.

    Returns:
        [n, count] catalogue rows.
    """
    titles = [catalogue.title_of(row) for row in pool.tolist()]
    # Every token counts as a word, so that titles of one letter or in any script still have a vector.
    words = TfidfVectorizer(token_pattern=r"(?u)\S+").fit_transform(titles)
    wanted = min(count + 1, len(pool))
    near = NearestNeighbors(n_neighbors=wanted, metric="cosine", algorithm="brute").fit(words)
    rows = near.kneighbors(words, return_distance=False)
    itself = rows == np.arange(len(rows))[:, None]
    # Items with equal titles may push an item out of its list of neighbours: then the farthest one is dropped instead.
    itself[~itself.any(1), -1] = True
    return pool[rows[~itself].reshape(len(rows), wanted - 1)]
