"""Run on data of your own: write two atomic files and a file of settings, train, and print the table.

    python examples/own_data.py [settings.yaml ...]

Files of settings come last and win, for example one with `backbone` or `max_steps`.
"""

import random
import sys
from pathlib import Path

from recbole_recfound import run_recfound

SETTINGS = """
data_path: my_data
max_steps: 20
eval_interval: 10
task_test_examples: 4
item_args: {text_fields: [title, colour]}
"""


def write_data(folder: Path, users: int = 60, items: int = 80, length: int = 12, seed: int = 0) -> None:
    """Write `shop.inter` and `shop.item`: every user buys things of one colour.

    Args:
        folder: of the data set; its name is that of the files.
        users: number of users.
        items: number of items.
        length: interactions of each user.
        seed: of the random choices.
    """
    draw = random.Random(seed)
    folder.mkdir(parents=True, exist_ok=True)
    colours, things = ("red", "green", "blue", "black"), ("shoe", "lamp", "chair", "cup", "coat")
    rows = [(f"i{n}", f"{colours[n % 4]} {things[n % 5]} number {n}", colours[n % 4]) for n in range(items)]
    lines = ["item_id:token\ttitle:token_seq\tcolour:token", *("\t".join(row) for row in rows)]
    (folder / "shop.item").write_text("\n".join(lines) + "\n", encoding="utf-8")
    lines = ["user_id:token\titem_id:token\ttimestamp:float"]
    for user in range(users):
        liked = [item for item, _, colour in rows if colour == colours[user % 4]]
        lines += [f"u{user}\t{item}\t{time}" for time, item in enumerate(draw.sample(liked, length))]
    (folder / "shop.inter").write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    write_data(Path("my_data") / "shop")
    Path("own_data.yaml").write_text(SETTINGS, encoding="utf-8")
    result = run_recfound("RecFound", "shop", ["own_data.yaml", *sys.argv[1:]], baselines=["Pop"])
    print("NDCG@10 on the test part:", result["test_result"]["ndcg@10"])
