"""Figures of the report, drawn by matplotlib as inline SVG."""

import io
from collections.abc import Mapping, Sequence
from itertools import accumulate

import matplotlib

matplotlib.use("svg")
# Makes the names of clip paths reproducible.
matplotlib.rcParams["svg.hashsalt"] = "recfound"
# Names of domains and tasks are text, also where they have a dollar sign.
matplotlib.rcParams["text.parse_math"] = False
from matplotlib import pyplot as plt  # noqa: E402  (the backend must be chosen first)

Curves = Mapping[str, Sequence[tuple[float, float]]]


def curves(series: Curves, ylabel: str) -> str:
    """Draw one line per name over optimiser steps.

    Args:
        series: name -> (step, value) points.
        ylabel: label of the values.
    """
    figure, axes = plt.subplots(figsize=(7.2, 3.2))
    for name, points in series.items():
        axes.plot([step for step, _ in points], [value for _, value in points], label=name, linewidth=1.4)
    axes.set_xlabel("step")
    axes.set_ylabel(ylabel)
    axes.legend(ncols=4, fontsize=8, frameon=False)
    axes.grid(alpha=0.25)
    return _svg(figure)


def shares(series: Curves, ylabel: str) -> str:
    """Draw stacked areas of shares that add up to one (the paper's figure of sampling ratios).

    Args:
        series: name -> (step, share) points, at the same steps for all names.
        ylabel: label of the shares.
    """
    figure, axes = plt.subplots(figsize=(7.2, 2.8))
    steps = [step for step, _ in next(iter(series.values()))]
    axes.stackplot(
        steps, [[value for _, value in points] for points in series.values()], labels=list(series), alpha=0.85
    )
    axes.set_xlabel("step")
    axes.set_ylabel(ylabel)
    axes.set_ylim(0, 1)
    axes.legend(ncols=4, fontsize=8, frameon=False, loc="lower left")
    return _svg(figure)


def heat_map(names: Sequence[str], values: Sequence[Sequence[float]]) -> str:
    """Draw a labelled square matrix with its values, 0 to 1.

    Args:
        names: n labels, of the rows and of the columns.
        values: [n, n], drawn with two decimal places.
    """
    size = 1.6 + 0.45 * len(names)
    figure, axes = plt.subplots(figsize=(size + 0.8, size))
    image = axes.imshow(values, vmin=0, vmax=1, cmap="viridis")
    axes.set_xticks(range(len(names)), names, rotation=45, ha="right")
    axes.set_yticks(range(len(names)), names)
    for row, line in enumerate(values):
        for column, value in enumerate(line):
            colour = "black" if value > 0.6 else "white"
            axes.text(column, row, f"{value:.2f}", ha="center", va="center", color=colour, fontsize=7)
    figure.colorbar(image, fraction=0.046)
    return _svg(figure)


def bars(names: Sequence[str], values: Sequence[float], label: str) -> str:
    """Draw horizontal bars, first name on top.

    Args:
        names: label of each bar.
        values: length of each bar.
        label: of the axis of the values.
    """
    figure, axes = plt.subplots(figsize=(7.2, 0.6 + 0.32 * len(names)))
    axes.barh(range(len(names)), values, color="#4477aa")
    axes.set_yticks(range(len(names)), names)
    axes.invert_yaxis()
    axes.set_xlabel(label)
    for place, value in enumerate(values):
        axes.text(value, place, f" {value:.4f}", va="center", fontsize=8)
    axes.margins(x=0.15)
    return _svg(figure)


def stretches(values: Mapping[str, float], label: str) -> str:
    """Draw one bar, divided into parts, with a legend that names the size of each.

    Args:
        values: length of each part, in order.
        label: of the axis.
    """
    figure, axes = plt.subplots(figsize=(7.2, 2.0))
    colours = plt.get_cmap("tab20")
    left = 0.0
    for number, (name, value) in enumerate(values.items()):
        axes.barh([0], [value], left=left, color=colours(number % 20), label=f"{name}: {value:.0f}")
        left += value
    axes.set_yticks([])
    axes.set_xlim(0, max(left, 1e-9))
    axes.set_xlabel(label)
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.35), ncol=3, fontsize=8, frameon=False)
    return _svg(figure)


def retained(points: Sequence[Mapping[str, float]], metric: str) -> str:
    """Draw the information kept against beta, with the validation score on a second axis.

    Args:
        points: `beta`, `kl` (nats) and `valid`, in any order.
        metric: name of the validation score.
    """
    ordered = sorted(points, key=lambda point: point["beta"])
    betas = [point["beta"] for point in ordered]
    figure, axes = plt.subplots(figsize=(7.2, 3.2))
    axes.plot(betas, [point["kl"] for point in ordered], marker="o", color="#4477aa")
    axes.set_xscale("symlog", linthresh=min((beta for beta in betas if beta > 0), default=1.0))
    axes.set_xlabel("beta")
    axes.set_ylabel("KL, nats", color="#4477aa")
    axes.grid(alpha=0.25)
    scores = axes.twinx()
    scores.plot(betas, [point["valid"] for point in ordered], marker="s", color="#cc6677", linestyle="--")
    scores.set_ylabel(f"validation {metric}", color="#cc6677")
    return _svg(figure)


def search(points: Sequence[tuple[int, float]], ylabel: str, smaller: bool = False) -> str:
    """Draw the score of every trial of a search, and the best one so far.

    Args:
        points: (number, score) of the trials, in the order of their numbers.
        ylabel: label of the scores.
        smaller: whether smaller scores are better.
    """
    numbers, scores = [number for number, _ in points], [score for _, score in points]
    best = list(accumulate(scores, min if smaller else max))
    figure, axes = plt.subplots(figsize=(7.2, 3.2))
    axes.scatter(numbers, scores, s=18, color="#4477aa", label="trial")
    axes.step(numbers, best, where="post", color="#cc6677", label="best so far")
    axes.set_xlabel("trial")
    axes.set_ylabel(ylabel)
    axes.legend(fontsize=8, frameon=False)
    axes.grid(alpha=0.25)
    return _svg(figure)


def _svg(figure: plt.Figure) -> str:
    figure.tight_layout()
    text = io.StringIO()
    # Without date and links, so that the same run writes the same page.
    nothing = {"Date": None, "Creator": None, "Format": None, "Type": None}
    figure.savefig(text, format="svg", metadata=nothing)
    plt.close(figure)
    return text.getvalue()[text.getvalue().index("<svg") :]
