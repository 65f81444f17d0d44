"""A real server under load, and how it ends."""

from __future__ import annotations

import json
import random
import signal
import threading
import time

import httpx
import pytest

from recbole_recfound import load_recfound
from recbole_recfound.serving.baselines import load_baselines
from tests.server import Server

CLIENTS, REQUESTS = 8, 2_000
NAMES = (None, "Pop", "EASE", "SASRec", "BPR")


@pytest.fixture(scope="module")
def catalogue(page_run):
    """Items and users of the run."""
    loaded = load_recfound(page_run)
    return list(loaded.item_ids), loaded.known_users()


def _bodies(items, users, count, seed=0):
    """Return requests of all sorts, and the status that each is answered with."""
    rng = random.Random(seed)
    bodies = []
    for number in range(count):
        body = {"k": rng.choice([1, 3, 10, 100, 1000])}
        body |= {"exclude": rng.sample(items, rng.randrange(4))} if rng.random() < 0.3 else {}
        body |= {"candidates": rng.sample(items, rng.randrange(5, 40))} if rng.random() < 0.3 else {}
        model = rng.choice(NAMES)
        body |= {"model": model} if model else {}
        if model == "BPR" or rng.random() < 0.4:
            body["user"] = rng.choice(users)
        else:
            body["history"] = rng.sample(items, rng.randrange(1, 12))
        wrong = {
            0: (body | {"user": "nobody", "history": None}, 400),
            1: (body | {"k": 0}, 422),
            2: (body | {"history": ["nothing"], "user": None}, 400),
            3: (body | {"model": "NeuMF"}, 400),
            4: (body | {"history": [], "user": users[0]}, 400),
            5: (body | {"history": [], "user": None}, 400),
        }
        bodies.append(wrong.get(number % 50, (body, 200)))
    return bodies


def _ask(client, body):
    answer = client.post("/recommend", json=body)
    return answer.status_code, answer.json()


def _same(found, expected):
    """Compare two answers: equal but for the last digits of scores, which depend on the rows of a pass."""
    if found[0] != expected[0] or found[0] != 200:
        return found == expected
    pairs = zip(found[1]["items"], expected[1]["items"], strict=True)
    return all(a["item"] == b["item"] and a["score"] == pytest.approx(b["score"], abs=1e-5) for a, b in pairs)


def test_clients_at_once_get_the_answers_of_one_by_one(page_run, catalogue):
    bodies = _bodies(*catalogue, REQUESTS)
    found: list = [None] * REQUESTS
    with Server(page_run) as server:

        def work(start):
            with httpx.Client(base_url=server.url, timeout=60) as client:
                for number in range(start, REQUESTS, CLIENTS):
                    found[number] = _ask(client, bodies[number][0])

        threads = [threading.Thread(target=work, args=(start,)) for start in range(CLIENTS)]
        start = time.perf_counter()
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        together = time.perf_counter() - start
        assert [status for status, _ in found] == [status for _, status in bodies]
        with httpx.Client(base_url=server.url, timeout=60) as client:
            start = time.perf_counter()
            expected = [_ask(client, body) for body, _ in bodies]
            alone = time.perf_counter() - start
            health = client.get("/health").json()
        assert health["status"] == "ok" and health["waiting"] == 0
        code, printed = server.stop(signal.SIGTERM)
    different = [number for number, pair in enumerate(zip(found, expected, strict=True)) if not _same(*pair)]
    assert not different, [(bodies[number], found[number], expected[number]) for number in different[:3]]
    print(f"{REQUESTS / together:.0f} requests a second of {CLIENTS} clients, {REQUESTS / alone:.0f} of one")
    assert code == 143 and printed.count("error: interrupted by SIGTERM") == 1 and "Traceback" not in printed


def test_answers_are_those_of_python(page_run, catalogue):
    """The serial answers of the server, against Python's."""
    models = {None: load_recfound(page_run)} | load_baselines(page_run)[0]
    with Server(page_run) as server, httpx.Client(base_url=server.url, timeout=60) as client:
        for body, status in _bodies(*catalogue, 100, seed=1):
            answer = _ask(client, body)
            assert answer[0] == status
            if status == 200:
                expected = models[body.get("model")].recommend(
                    body.get("history"),
                    user=body.get("user"),
                    k=body["k"],
                    exclude=body.get("exclude", ()),
                    candidates=body.get("candidates"),
                )
                items = [{"item": token, "text": text, "score": score} for token, text, score in expected]
                assert _same(answer, (200, {"items": items})), body


@pytest.mark.parametrize(
    ("number", "code", "line"),
    [(signal.SIGTERM, 143, "error: interrupted by SIGTERM"), (signal.SIGINT, 130, "error: interrupted by Ctrl-C")],
)
def test_a_request_under_way_is_answered_before_the_end(page_run, catalogue, number, code, line):
    items, _ = catalogue
    with Server(page_run) as server, httpx.Client(base_url=server.url, timeout=60) as client:
        body = json.dumps({"history": items[:2], "k": 3}).encode()

        # The headers arrive before the signal, the body after it.
        def late():
            yield body[:5]
            ended.append(server.process.send_signal(number))
            time.sleep(1)
            yield body[5:]

        ended: list = []
        headers = {"Content-Type": "application/json"}
        answer = client.post("/recommend", content=late(), headers=headers)
        assert answer.status_code == 200 and len(answer.json()["items"]) == 3
        found, printed = server.wait()
        assert ended and found == code
        assert printed.count(line) == 1 and "Traceback" not in printed
        with pytest.raises(httpx.ConnectError):
            httpx.get(f"{server.url}/health")


@pytest.mark.parametrize(
    ("number", "code", "line"), [(signal.SIGTERM, 143, "interrupted by SIGTERM"), (signal.SIGINT, 130, "by Ctrl-C")]
)
def test_several_workers(page_run, catalogue, number, code, line):
    items, _ = catalogue
    with Server(page_run, "--workers", "2") as server:
        with httpx.Client(base_url=server.url, timeout=60) as client:
            for _ in range(20):
                assert len(client.post("/recommend", json={"history": items[:2], "k": 3}).json()["items"]) == 3
            refused = client.post("/items", json={"items": [{"item_id": "new"}]})
            assert refused.status_code == 400 and "--workers 1" in refused.json()["error"]
        found, printed = server.stop(number)
    assert found == code and line in printed
    assert "Traceback" not in printed and "leaked" not in printed, printed


def test_workers_that_cannot_start_end_the_server(page_run, tmp_path):
    server = Server(page_run, "--workers", "2", "--backbone", str(tmp_path))
    with pytest.raises(RuntimeError, match="error: serve: a worker could not start"), server:
        pass
