"""Recommendations for a few test users, which the report shows as titles."""

from __future__ import annotations

from typing import Any

import torch

from recbole_recfound.data.split.protocol import Splits, held_out
from recbole_recfound.system.recfound.build import Built


@torch.no_grad()
def recommend_examples(splits: Splits, built: Built, count: int = 10, shown: int = 5) -> list[dict[str, Any]]:
    """Return recommendations for a few test users, as titles; items of their history are masked.

    Args:
        splits: the data of the run.
        built: the trained model with its data.
        count: most users to show.
        shown: titles in each list: recommended ones, and the newest ones of the history.
    """
    pairs = held_out(splits.test_set)
    chosen = pairs[:: max(1, len(pairs) // count)][:count]
    model, catalogue = built.model.eval(), built.catalogue
    index_of_id = built.data.item_ids.index_of_id
    items, lengths = splits.known_at_test.padded(chosen[:, 0], splits.config["MAX_ITEM_LIST_LENGTH"])
    users = model.user_vectors(torch.from_numpy(items).to(model.device), torch.from_numpy(lengths).to(model.device))
    scores = users @ model.item_vectors().T
    scores[:, 0] = float("-inf")
    examples = []
    for (user, target), score in zip(chosen, scores, strict=True):
        known = splits.known_at_test.of(user)
        score[torch.from_numpy(known[known != target]).to(model.device)] = float("-inf")
        best = score.topk(min(shown, len(score)))
        titles = [catalogue.title_of(index_of_id[iid]) for iid in best.indices[best.values.isfinite()].tolist()]
        examples.append(
            {
                "user": str(splits.train_set.id2token(splits.train_set.uid_field, user)),
                "history": [catalogue.title_of(index_of_id[iid]) for iid in known[-shown:]],
                "recommended": titles,
                "held_out": catalogue.title_of(index_of_id[target]),
            }
        )
    return examples
