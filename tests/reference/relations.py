"""MiniLM's relation loss pair by pair, as the formula reads."""

import math


def relation_loss(teacher, student, source, heads):
    """Mean over QQ, KK and VV, heads and tokens of KL(teacher || student) over the tokens that a token sees.

    Args:
        teacher: three lists of T vectors.
        student: likewise.
        source: number of tokens of the source.
        heads: parts of each vector.
    """
    total = []
    for theirs, own in zip(teacher, student, strict=True):
        length = len(theirs)
        for head in range(heads):
            for query in range(length):
                seen = range(source) if query < source else range(query + 1)
                expected = _row(theirs, head, heads, query, seen)
                given = _row(own, head, heads, query, seen)
                total.append(sum(p * (math.log(p) - math.log(q)) for p, q in zip(expected, given, strict=True)))
    return sum(total) / len(total)


def _row(vectors, head, heads, query, seen):
    size = len(vectors[0]) // heads
    part = slice(head * size, (head + 1) * size)
    products = [
        sum(a * b for a, b in zip(vectors[query][part], vectors[key][part], strict=True)) / math.sqrt(size)
        for key in seen
    ]
    largest = max(products)
    powers = [math.exp(product - largest) for product in products]
    return [power / sum(powers) for power in powers]
