"""The user vector with the last items of its history, one position after the other."""

import torch


def with_recent_items(user, vectors, history, share, kept):
    """Return normalize(h + g normalize(sum of a^age v)) for one history of item ids, oldest first."""
    total = torch.zeros_like(user)
    for age, item in enumerate(reversed(history)):
        total = total + kept**age * vectors[item]
    if history:
        user = user + share * total / total.norm()
    return user / user.norm()
