"""S2Sched written down from its equations: pure Python, everything recomputed from the whole record.

l_i(s)   probe loss of task i at update s over its untrained loss (at least 1e-8)
a_i(t)   slope of the least-squares line through the last H values of l_i
RCS_i    softmax_i(K a_i / sum_j |a_j|)
ACS_i    softmax_i(-n a_i(t) / sum over the last n slopes |a_i(s)|)
m(s)     max_i l_i(s);  b(s) = slope of m over the last H updates
DF       min(N softmax_s(-tau N b(s) / sum_s |b(s)|)[last], 1)
w        softmax(K (DF RCS + (1 - DF) ACS)), times size over mean size, renormalised, floored at 1 / (5 K)
"""

from math import exp


def softmax(values):
    top = max(values)
    total = sum(exp(value - top) for value in values)
    return [exp(value - top) / total for value in values]


def ratio(value, total):
    return value / total if total else 0.0


def slope(points):
    """Slope of the least-squares line through (x, y) points."""
    if len(points) < 2:
        return 0.0
    mean_x = sum(x for x, _ in points) / len(points)
    mean_y = sum(y for _, y in points) / len(points)
    spread = sum((x - mean_x) ** 2 for x, _ in points)
    return sum((x - mean_x) * (y - mean_y) for x, y in points) / spread


def weights(record, sizes, groups, history=64, warmup=32, tau=1.0):
    """Sampling weights after a record of update calls, the first of them the untrained losses."""
    result = {}
    for group in sorted(set(groups.values())):
        tasks = [task for task in sizes if groups[task] == group]
        result.update(group_weights(record, {task: sizes[task] for task in tasks}, history, warmup, tau))
    return result


def group_weights(record, sizes, history, warmup, tau):
    K, last = len(sizes), len(record) - 1
    if last <= warmup:
        return {task: size / sum(sizes.values()) for task, size in sizes.items()}
    curves = {task: curve(record, task) for task in sizes}
    slopes = {
        task: [slope(upto(points, t)[-history:]) for t in range(warmup + 1, last + 1)]
        for task, points in curves.items()
    }
    worst = worst_slopes(curves, warmup, last, history)
    N, n = last - warmup, min(last - warmup, history)

    total = sum(abs(values[-1]) for values in slopes.values())
    rcs = softmax([K * ratio(values[-1], total) for values in slopes.values()])
    acs = softmax(
        [-n * ratio(values[-1], sum(abs(value) for value in values[-history:])) for values in slopes.values()]
    )
    total = sum(abs(value) for value in worst)
    factor = min(N * softmax([-tau * N * ratio(value, total) for value in worst])[-1], 1)

    w = softmax([K * (factor * r + (1 - factor) * a) for r, a in zip(rcs, acs, strict=True)])
    mean_size = sum(sizes.values()) / K
    w = [value * size / mean_size for value, size in zip(w, sizes.values(), strict=True)]
    w = [value / sum(w) for value in w]
    f = 1 / (5 * K)
    if min(w) < f:
        w = [value * (1 - K * f) + f for value in w]
    return dict(zip(sizes, w, strict=True))


def curve(record, task):
    """(update, relative loss) of a task; its first loss only normalises."""
    seen = [(s, losses[task]) for s, losses in enumerate(record) if task in losses]
    return [(s, value / max(seen[0][1], 1e-8)) for s, value in seen[1:]]


def upto(points, t):
    return [point for point in points if point[0] <= t]


def worst_slopes(curves, warmup, last, history):
    """b(s) for every update since warm-up; a task counts with its latest value."""
    m = []
    for s in range(1, last + 1):
        values = [upto(points, s)[-1][1] for points in curves.values() if upto(points, s)]
        if values:
            m.append((s, max(values)))
    return [slope([point for point in upto(m, t) if point[0] > t - history]) for t in range(warmup + 1, last + 1)]
