"""What a large catalogue costs a served run, and what HTTP adds.

    python -m benchmarks.serving --json serving.json [--quick]

Search: item vectors of the bundled backbone's width in clusters, as texts of one subject lie together; a user is the
mean of some items of one or two clusters. Both sides answer through `recommend_batch`, exactly and with faiss; what
the language model takes to read a history is not part of it. Rounds are timed one after the other in turn. HTTP: a
small run with random weights in a process of its own, asked by clients that keep their connections.

Ratios:
    faiss_over_exact     users per second with faiss, over exact search
    recall               share of the exact ten best that faiss finds, for these users
    batched_over_single  requests per second of the model when 8 are answered in one pass, over one after the other
    clients_over_one     requests per second over HTTP of 8 clients, over one client
"""

from __future__ import annotations

import argparse
import http.client
import json
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from types import SimpleNamespace
from unittest import mock

import numpy as np
import torch
from torch.nn import functional as F

from benchmarks.frame import finish, progress
from recbole_recfound import load_recfound, run_recfound
from recbole_recfound.runtime.device import peak_memory_gib
from recbole_recfound.runtime.locations import recbole_dir
from recbole_recfound.serving import recfound
from recbole_recfound.serving.recommender import Recommender
from recbole_recfound.serving.request import Request
from tests.server import Server
from tests.tiny_backbone import write_tiny_backbone

WIDTH, TOP, CLIENTS = 576, 10, 8
CHUNK = 50_000
"""Vectors drawn at a time."""


class Searched(recfound.RecFoundRecommender):
    """RecFound's ranking over given vectors: a user is the mean of the items of the history.

    Args:
        vectors: float32 [1 + items, d], normalised; row 0 is the padding.
    """

    def __init__(self, vectors: torch.Tensor) -> None:
        tokens = {str(item): item for item in range(1, len(vectors))}
        Recommender.__init__(self, tokens, ["", *tokens], "item_id", "user_id")
        self.vectors, self.device, self._index = vectors, vectors.device, None
        parts = SimpleNamespace(ranks=True)
        self.model = SimpleNamespace(item_vectors=lambda: vectors, parts=parts)

    def _user_vectors(self, histories: Sequence[np.ndarray]) -> torch.Tensor:
        return F.normalize(torch.stack([self.vectors[history].mean(0) for history in histories]), dim=-1)


class Exact(Searched):
    """The same without an index."""

    _best = Recommender._best


def clustered(items: int, clusters: int, seed: int = 0) -> tuple[torch.Tensor, np.ndarray]:
    """Draw normalised vectors [1 + items, WIDTH] around centres of unequal sizes, and the cluster of each."""
    random = torch.Generator().manual_seed(seed)
    centres = F.normalize(torch.randn(clusters, WIDTH, generator=random), dim=-1)
    sizes = 1 / torch.arange(1, clusters + 1) ** 0.5
    cluster = torch.multinomial(sizes, items + 1, replacement=True, generator=random)
    vectors = torch.empty(items + 1, WIDTH)
    for start in range(0, items + 1, CHUNK):
        part = cluster[start : start + CHUNK]
        noise = torch.randn(len(part), WIDTH, generator=random) / WIDTH**0.5
        vectors[start : start + CHUNK] = F.normalize(centres[part] + noise, dim=-1)
    vectors[0] = 0
    return vectors, cluster.numpy()


def histories(cluster: np.ndarray, users: int, seed: int = 1) -> list[list[str]]:
    """Draw histories of 5 to 30 items of one or two clusters."""
    rng = np.random.default_rng(seed)
    order = np.argsort(cluster[1:], kind="stable") + 1
    ends = np.searchsorted(cluster[order], np.arange(cluster.max() + 2))
    found = []
    for _ in range(users):
        pools = [cluster[rng.integers(1, len(cluster))] for _ in range(rng.integers(1, 3))]
        rows = np.concatenate([order[ends[pool] : ends[pool + 1]] for pool in pools])
        found.append([str(item) for item in rng.choice(rows, rng.integers(5, 31))])
    return found


def timed(work: Callable[[], object]) -> float:
    """Return the seconds of a call."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def search(items: int, users: int, rounds: int) -> tuple[dict[str, float], dict[str, float]]:
    """Measure a large catalogue: ratios, and numbers behind them."""
    vectors, cluster = clustered(items, max(10, items // 500))
    asked = histories(cluster, users)
    progress(f"{items:,} items of width {WIDTH} ({vectors.nbytes / 2**30:.1f} GiB), {users} users")
    exact, faiss = Exact(vectors), Searched(vectors)
    found = {"vectors_gib": vectors.nbytes / 2**30, "peak_gib_before": peak_memory_gib()}
    answers: dict[str, list] = {}
    seconds = timed(lambda: answers.update(exact=exact.recommend_batch(asked, k=TOP)))
    found |= {"exact_users_per_second": users / seconds, "exact_peak_gib": peak_memory_gib()}
    progress(f"exact: {users / seconds:.1f} users a second, peak {peak_memory_gib():.1f} GiB")
    found["build_seconds"] = timed(faiss._approximate)
    seconds = timed(lambda: answers.update(faiss=faiss.recommend_batch(asked, k=TOP)))
    found |= {"faiss_users_per_second": users / seconds, "faiss_peak_gib": peak_memory_gib()}
    progress(
        f"faiss: {users / seconds:.1f} users a second, peak {found['faiss_peak_gib']:.1f} GiB, "
        f"built in {found['build_seconds']:.0f} s"
    )
    found["lists"], found["probes"] = faiss._approximate().lists, faiss._approximate().probes
    hits = [
        len({token for token, *_ in mine} & {token for token, *_ in best}) / len(best)
        for mine, best in zip(answers["faiss"], answers["exact"], strict=True)
    ]
    part = asked[: max(1, users // (2 * rounds))]
    ratios = [
        timed(lambda: exact.recommend_batch(part, k=TOP)) / timed(lambda: faiss.recommend_batch(part, k=TOP))
        for _ in range(rounds)
    ]
    return {"faiss_over_exact": statistics.median(ratios), "recall": statistics.mean(hits)}, found


def small_run(folder: Path) -> str:
    """Train a run of one step with random weights on RecBole's copy of ml-100k."""
    (folder / "backbone").mkdir()
    settings = {
        "data_path": str(recbole_dir() / "dataset_example"),
        "backbone": str(write_tiny_backbone(folder / "backbone")),
        "output_dir": str(folder / "runs"),
        "show_progress": False,
        "use_gpu": False,
        "precision": "float32",
        "time_budget": 0,
        "max_steps": 1,
        "tasks": ["U2I"],
        "task_test_examples": 0,
        "save_histories": True,
    }
    with redirect_stdout(StringIO()):
        return run_recfound("RecFound", "ml-100k", config_dict=settings)["run_dir"]


def ask(url: str, bodies: Sequence[str], clients: int) -> list[float]:
    """Ask for all bodies from several clients at once; return the seconds of each answer."""
    seconds = [0.0] * len(bodies)
    address = url.removeprefix("http://")

    def work(start: int) -> None:
        connection = http.client.HTTPConnection(address, timeout=60)
        for number in range(start, len(bodies), clients):
            began = time.perf_counter()
            connection.request("POST", "/recommend", bodies[number], {"Content-Type": "application/json"})
            answer = connection.getresponse()
            text = answer.read()
            if answer.status != 200:
                raise RuntimeError(text.decode())
            seconds[number] = time.perf_counter() - began
        connection.close()

    threads = [threading.Thread(target=work, args=(start,)) for start in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if not all(seconds):
        raise RuntimeError("not every request was answered")
    return seconds


def requests(run: str, count: int, rounds: int) -> tuple[dict[str, float], dict[str, float]]:
    """Measure HTTP and passes of several requests: ratios, and numbers behind them."""
    loaded, rng = load_recfound(run), np.random.default_rng(0)
    items = loaded.tokens[1:]
    asked = [rng.choice(items, rng.integers(1, 30), replace=False).tolist() for _ in range(count)]
    bodies = [json.dumps({"history": history, "k": TOP}) for history in asked]
    with Server(run) as server:
        ask(server.url, bodies[:100], CLIENTS)  # warms up
        start = time.perf_counter()
        latencies = sorted(ask(server.url, bodies, CLIENTS))
        per_second = count / (time.perf_counter() - start)
        part = bodies[: count // rounds]
        over_one = [
            timed(lambda: ask(server.url, part, 1)) / timed(lambda: ask(server.url, part, CLIENTS))
            for _ in range(rounds)
        ]
    found = {
        "p50_ms": 1000 * latencies[count // 2],
        "p99_ms": 1000 * latencies[count * 99 // 100],
        "requests_per_second": per_second,
    }
    progress(f"HTTP: p50 {found['p50_ms']:.1f} ms, p99 {found['p99_ms']:.1f} ms, {per_second:.0f} requests a second")
    alone = [Request(history=history, k=TOP) for history in asked[: CLIENTS * 25]]
    single, batched = ([alone[start : start + size] for start in range(0, len(alone), size)] for size in (1, CLIENTS))
    over_single = [
        timed(lambda: [loaded.recommend_each(some) for some in single])
        / timed(lambda: [loaded.recommend_each(some) for some in batched])
        for _ in range(rounds)
    ]
    ratios = {"batched_over_single": statistics.median(over_single), "clients_over_one": statistics.median(over_one)}
    return ratios, found


def main(argv: list[str] | None = None) -> int:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, help="write the ratios to this file")
    parser.add_argument("--items", type=int, default=1_000_000, help="items of the large catalogue")
    parser.add_argument("--users", type=int, default=1_000, help="users who are answered")
    parser.add_argument("--requests", type=int, default=2_000, help="requests over HTTP")
    parser.add_argument("--rounds", type=int, default=5, help="timed rounds")
    parser.add_argument("--quick", action="store_true", help="a size at which the numbers mean little")
    options = parser.parse_args(argv)
    if options.quick:
        options.items, options.users, options.requests, options.rounds = 20_000, 50, 120, 3
    with mock.patch.object(recfound, "approximates", lambda *sizes: True):  # at any size; `Exact` has no index
        ratios, numbers = search(options.items, options.users, options.rounds)
    with tempfile.TemporaryDirectory() as folder:
        of_requests, more = requests(small_run(Path(folder)), options.requests, options.rounds)
    ratios, numbers = ratios | of_requests, numbers | more
    return finish(ratios, {}, options, numbers=numbers)


if __name__ == "__main__":
    sys.exit(main())
