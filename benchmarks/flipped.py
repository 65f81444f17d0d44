"""A data set whose two domains like opposite items: kernels per domain can learn it, a shared base cannot.

    python -m benchmarks.flipped FOLDER [--seed=0]

writes FOLDER/flipped/flipped.{inter,user,item}. Every item has a flavour between -1 and 1, and a kind that tells it
roughly; users of domain `north` click with probability sigmoid(strength * flavour), those of `south` with
sigmoid(-strength * flavour). Users have few rows, so that a base can hardly learn each user's side.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

SETTINGS = {
    "load_col": {
        "inter": ["user_id", "item_id", "label", "timestamp"],
        "item": ["item_id", "kind"],
    },
    "domain": ["region"],
}
"""Settings of a run on this data set: the domain itself is not among the base's columns."""


def write_flipped(
    folder: Path, seed: int = 0, users: int = 4000, items: int = 60, rows: int = 3, strength: float = 3.0
) -> Path:
    """Write the data set.

    Args:
        folder: the `data_path`; its sub-folder `flipped` is made.
        seed: of users, items and clicks.
        users: number of users, half of them in each domain.
        items: number of items.
        rows: interactions of each user, with different items.
        strength: how strong the preference is, in logits.

    Returns:
        `folder`.
    """
    random = np.random.default_rng(seed)
    flavour = random.uniform(-1, 1, items)
    side = np.where(random.permutation(users) % 2 == 0, 1.0, -1.0)
    lines = []
    for user in range(users):
        for time, item in enumerate(random.choice(items, rows, replace=False)):
            click = random.random() < 1 / (1 + np.exp(-strength * side[user] * flavour[item]))
            lines.append(f"u{user}\ti{item}\t{int(click)}\t{time * users + user}")
    target = folder / "flipped"
    target.mkdir(parents=True, exist_ok=True)
    header = "user_id:token\titem_id:token\tlabel:float\ttimestamp:float"
    (target / "flipped.inter").write_text("\n".join([header, *lines]) + "\n")
    regions = [f"u{user}\t{'north' if side[user] > 0 else 'south'}" for user in range(users)]
    (target / "flipped.user").write_text("\n".join(["user_id:token\tregion:token", *regions]) + "\n")
    kinds = [f"i{item}\tk{int(4 * (flavour[item] + 1))}" for item in range(items)]
    (target / "flipped.item").write_text("\n".join(["item_id:token\tkind:token", *kinds]) + "\n")
    return folder


def main(argv: list[str] | None = None) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(argv)
    print(write_flipped(options.folder, options.seed))


if __name__ == "__main__":
    main()
