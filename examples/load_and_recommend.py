"""Load a finished run and ask it: recommendations, scores, vectors, a new item.

    python examples/load_and_recommend.py runs/RecFound-ml-100k-... [item token ...]

The run folder and the backbone are enough; the data set may be gone.
"""

import sys

from recbole_recfound import load_recfound


def main(run_dir: str, *history: str) -> None:
    """Recommend for a history of item tokens.

    Args:
        run_dir: folder of a finished run of RecFound.
        history: item tokens, oldest first; none: the first three items.
    """
    run = load_recfound(run_dir)
    shown = list(history or list(run.item_ids)[:3])
    print("history:", ", ".join(shown))
    for token, text, score in run.recommend(shown, k=5):
        print(f"{score:.3f}  {token}  {text}")
    print("scores of two items:", run.score([shown, shown], list(run.item_ids)[3:5]).tolist())
    print("vector of a text:", tuple(run.embed_items(["A film that nobody has seen"]).shape))


if __name__ == "__main__":
    main(*sys.argv[1:])
