"""Product matching without a model: what always saying yes and counting common words (prices left out) reach.

`python -m benchmarks.matching TRAIN TEST --json FILE` reads JSON-lines records of Product_Matching whose prompts hold
the two products in lines of their own (`Product 1: ...`, `Product 2: ...`). A model that does not beat these two is not
reading the text.
"""

import argparse
import re
import sys
from pathlib import Path

import numpy as np
from sklearn.metrics import f1_score

from benchmarks.frame import finish
from recbole_recfound.data.records.records import RecordFile
from recbole_recfound.data.task.answers import parse_yes_no
from recbole_recfound.errors import DataError
from recbole_recfound.evaluation.tasks import best_threshold

PRODUCT = re.compile(r"^Product \d+: (.*)$", re.MULTILINE)
PRICE = re.compile(r"price:.*")


def overlaps(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Jaccard index of the two products' words [n], and whether they match [n].

    Raises:
        DataError: a prompt without two products.
    """
    file = RecordFile(path)
    indices, wanted = [], []
    for index in range(file.size("PM")):
        record = file.read("PM", index)[0]
        products = [
            set(re.findall(r"[a-z0-9]+", PRICE.sub("", text.lower()))) for text in PRODUCT.findall(record.prompt)
        ]
        if len(products) != 2:
            raise DataError(f"{path}: record {index + 1} of PM: the prompt does not hold two products")
        indices.append(len(products[0] & products[1]) / max(1, len(products[0] | products[1])))
        wanted.append(parse_yes_no(record.answer) == "yes")
    return np.array(indices), np.array(wanted)


def main(argv: list[str] | None = None) -> int:
    """Choose the threshold on the training part, score both on the test part."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("train", type=Path)
    parser.add_argument("test", type=Path)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args(argv)
    threshold = best_threshold(*overlaps(options.train))
    index, wanted = overlaps(options.test)
    found = {"always_yes": f1_score(wanted, np.ones_like(wanted)), "jaccard": f1_score(wanted, index > threshold)}
    print(f"F1 on {len(wanted)} pairs")
    return finish(found, {}, options, threshold=threshold)


if __name__ == "__main__":
    sys.exit(main())
