"""The HTTP interface: answers, limits, keys, and requests that arrive together."""

from __future__ import annotations

import asyncio
import threading

import pytest

from recbole_recfound import load_recfound
from recbole_recfound.errors import ConfigError
from recbole_recfound.serving.request import Request

pytest.importorskip("fastapi")
from fastapi.testclient import TestClient

from recbole_recfound.serving.http.app import MOST_BYTES, create_app
from recbole_recfound.serving.http.batching import Batcher, QueueFull

FACTS = {"model": "RecFound", "dataset": "tiny", "tasks": ["U2I", "SR"]}


@pytest.fixture
def loaded(served_run):
    return load_recfound(served_run)


@pytest.fixture
def client(loaded):
    with TestClient(create_app(loaded, FACTS)) as made:
        yield made


def test_recommendations_are_those_of_python(client, loaded):
    items = list(loaded.item_ids)
    expected = loaded.recommend(items[:3], k=4, exclude=items[4:6])
    body = {"history": items[:3], "k": 4, "exclude": items[4:6]}
    answer = client.post("/recommend", json=body)
    assert answer.status_code == 200
    found = answer.json()["items"]
    assert [(one["item"], one["text"]) for one in found] == [(token, text) for token, text, _ in expected]
    assert [one["score"] for one in found] == pytest.approx([score for *_, score in expected], abs=1e-6)
    user = client.post("/recommend", json={"user": loaded.known_users()[0], "k": 2}).json()["items"]
    assert [one["item"] for one in user] == [token for token, *_ in loaded.recommend(user=loaded.known_users()[0], k=2)]


def test_an_added_item_is_found_and_recommended(client, loaded):
    title = loaded.catalogue.title
    answer = client.post("/items", json={"items": [{"item_id": "new", title: "A Grand Day Out", "year": 1989}]})
    assert answer.status_code == 200 and answer.json() == {"added": 1, "items": len(loaded.tokens) - 1}
    assert client.get("/items", params={"query": "grand DAY"}).json()["items"] == [
        {"item": "new", "text": "A Grand Day Out"}
    ]
    best = client.post("/recommend", json={"history": ["new"], "candidates": ["new", loaded.tokens[1]]}).json()["items"]
    assert [one["item"] for one in best] == [loaded.tokens[1]]
    assert client.post("/items", json={"items": [{"item_id": "new"}]}).status_code == 400
    health = client.get("/health").json()
    assert health["items"] == len(loaded.tokens) - 1 and health["columns"] == loaded.item_columns


def test_the_item_whose_token_was_typed_comes_first(client, loaded):
    title = loaded.catalogue.title
    many = [{"item_id": f"film-{number}", title: f"film new-95 of {number}"} for number in range(9)]
    client.post("/items", json={"items": [*many, {"item_id": "new-95", title: "the one"}]})
    found = client.get("/items", params={"query": "new-95", "limit": 8}).json()["items"]
    assert [one["item"] for one in found] == ["new-95", *(f"film-{number}" for number in range(7))]


@pytest.mark.parametrize("parameters", [{"words": "x"}, {"query": "x", "limit": 0}, {"limit": "many"}])
def test_wrong_parameters_of_a_search(client, parameters):
    answer = client.get("/items", params=parameters)
    assert answer.status_code == 422 and list(parameters)[-1] in answer.json()["error"]


def test_answers_of_closed_tasks(client, loaded):
    items = list(loaded.item_ids)
    body = {"task": "SR", "fields": {"history": items[:3], "candidates": items[4:7]}}
    assert client.post("/generate", json=body).json()["answer"] in "ABC"
    assert client.post("/generate", json=body | {"max_new_tokens": 1}).json()["answer"] in "ABC"


def test_the_limit_of_an_answer_is_handed_on(client, loaded, monkeypatch):
    monkeypatch.setattr(loaded, "generate", lambda task, **named: f"{task} {named}")
    body = {"task": "IP", "fields": {"item": "fish"}, "max_new_tokens": 20.0}
    answer = client.post("/generate", json=body).json()["answer"]
    assert answer == "IP {'max_new_tokens': 20, 'item': 'fish'}"


@pytest.mark.parametrize(
    ("path", "body", "status", "said"),
    [
        ("/recommend", {"history": ["nothing"]}, 400, "item_id: unknown token 'nothing'"),
        ("/recommend", {"history": []}, 400, "item_id: got an empty list"),
        ("/recommend", {}, 400, "give either history, user or query"),
        ("/recommend", {"history": ["1"], "k": 0}, 422, "k: Input should be greater than or equal to 1"),
        ("/recommend", {"history": ["1"], "k": 5000}, 422, "less than or equal to 1000"),
        ("/recommend", {"history": ["1"], "k": 2.5}, 422, "k: Input should be a valid integer"),
        ("/recommend", {"history": ["1"], "k": "3"}, 422, "k: Input should be a valid integer"),
        ("/recommend", {"history": "1"}, 422, "history: Input should be a valid list"),
        ("/recommend", {"history": [1]}, 422, "history.0: Input should be a valid string"),
        ("/recommend", {"histori": ["1"]}, 422, "histori: Extra inputs are not permitted"),
        ("/recommend", {"history": ["x" * 300]}, 422, "at most 256 characters"),
        ("/recommend", {"history": ["1"] * 10_001}, 422, "at most 10000 items"),
        ("/recommend", {"history": ["1"], "model": "EASE"}, 400, "expected one of the run's baselines (none)"),
        ("/recommend", {"query": " "}, 400, "query: got ' ', expected a text"),
        ("/recommend", {"query": "fish"}, 400, "not trained on Q2I"),
        ("/recommend", {"history": ["1"], "domains": {"gender": "F"}}, 400, "no kernels"),
        ("/items", {"items": []}, 422, "at least 1 item"),
        ("/items", {"items": [{"title": "no id"}]}, 400, "needs an id"),
        ("/generate", {"task": "U2I"}, 400, "expected one of SR"),
        ("/generate", {"task": "SR", "fields": {"history": ["1"]}}, 400, "expected candidates, history"),
        ("/generate", {"task": "SR", "fields": {"task": "SA"}}, 400, "fields: got task, expected slots of the prompt"),
        ("/generate", {"task": "SR", "max_new_tokens": 5_000}, 422, "less than or equal to 1000"),
        ("/generate", {"task": "SR", "fields": {"history": 3, "candidates": ["1"]}}, 400, "expected a list"),
    ],
)
def test_wrong_requests_get_one_clear_line(client, path, body, status, said):
    answer = client.post(path, json=body)
    assert answer.status_code == status, answer.text
    assert said in answer.json()["error"] and "\n" not in answer.json()["error"]


def test_a_whole_number_may_be_written_with_a_point(client):
    """JSON Schema, in which the server describes itself, takes 3.0 for an integer."""
    whole, pointed = (client.post("/recommend", json={"history": ["1"], "k": k}) for k in (3, 3.0))
    assert pointed.status_code == 200 and pointed.json() == whole.json() and len(whole.json()["items"]) == 3


def test_nothing_is_left_of_candidates_that_are_excluded(client, loaded):
    items = list(loaded.item_ids)[:2]
    answer = client.post("/recommend", json={"history": items, "candidates": items, "exclude": items})
    assert answer.status_code == 200 and answer.json() == {"items": []}


def test_more_candidates_than_letters(client, loaded):
    body = {"task": "SR", "fields": {"history": loaded.tokens[1:2], "candidates": loaded.tokens[2:42]}}
    answer = client.post("/generate", json=body)
    assert answer.status_code == 400 and "candidates" in answer.json()["error"]


def test_bodies(client):
    kind = {"Content-Type": "application/json"}
    assert client.post("/recommend", content=b"{", headers=kind).status_code == 422
    assert client.post("/recommend", content=b"{}", headers={"Content-Type": "text/plain"}).status_code == 415
    large = b'{"history": ["' + b"x" * MOST_BYTES + b'"]}'
    assert client.post("/recommend", content=large, headers=kind).status_code == 413
    # Without a length, in parts.
    assert client.post("/recommend", content=iter([large[:999], large[999:]]), headers=kind).status_code == 413
    for length in (b"\xb2", b"two", b"9" * 5000):
        sent = client.post("/recommend", content=b"{}", headers={**kind, "Content-Length": length})
        assert sent.status_code == 400 and "Content-Length" in sent.json()["error"]
    surrogate = b'{"history": ["\\ud800"]}'
    assert client.post("/recommend", content=surrogate, headers=kind).status_code == 422
    assert client.get("/nothing").json() == {"error": "Not Found"}
    assert client.get("/recommend").status_code == 405


def test_the_key(loaded):
    with TestClient(create_app(loaded, FACTS, api_key="secret")) as client:
        for headers in ({}, {"X-API-Key": "wrong"}, {"X-API-Key": ""}):
            for method, path in (("POST", "/recommend"), ("POST", "/items"), ("POST", "/generate"), ("GET", "/items")):
                answer = client.request(method, path, json={} if method == "POST" else None, headers=headers)
                assert answer.status_code == 401 and "X-API-Key" in answer.json()["error"]
        right = client.post("/recommend", json={"history": ["1"], "k": 1}, headers={"X-API-Key": "secret"})
        assert right.status_code == 200
        assert client.get("/health").status_code == client.get("/").status_code == 200


def test_another_sites_page_cannot_take_the_servers_name(client):
    for host in ("evil.example", "127.0.0.1.evil.example", "127.0.0.1@evil.example", "[::1", ""):
        answer = client.get("/health", headers={"Host": host})
        assert answer.status_code == 400 and answer.json()["error"].startswith("Host: this server answers only to"), (
            host
        )
    for host in ("127.0.0.1:8000", "localhost", "[::1]:8000"):
        assert client.get("/health", headers={"Host": host}).status_code == 200, host


def test_the_pages_load_nothing_from_elsewhere(client):
    for path in ("/", "/page.js", "/page.css", "/docs"):
        answer = client.get(path)
        assert answer.status_code == 200 and "default-src 'none'" in answer.headers["content-security-policy"]
        assert "http://" not in answer.text and "https://" not in answer.text and "innerHTML" not in answer.text
    operations = client.get("/docs").text
    for path in client.get("/openapi.json").json()["paths"]:
        assert path in operations


def test_several_workers_add_no_items(loaded):
    with TestClient(create_app(loaded, FACTS, adds_items=False)) as client:
        answer = client.post("/items", json={"items": [{"item_id": "new"}]})
        assert answer.status_code == 400 and "--workers 1" in answer.json()["error"]


def test_an_unexpected_error_says_nothing_of_the_inside(loaded, monkeypatch, caplog):
    monkeypatch.setattr(loaded, "recommend_each", lambda requests: 1 / 0)
    with TestClient(create_app(loaded, FACTS), raise_server_exceptions=False) as client:
        answer = client.post("/recommend", json={"history": ["1"]})
    assert answer.status_code == 500 and answer.json()["error"] == "internal error; the server's log says more"
    assert "ZeroDivisionError" in caplog.text


class Slow:
    """A recommender whose passes wait until they are let through."""

    def __init__(self):
        self.passes, self.gate = [], threading.Event()

    def recommend_each(self, requests):
        self.gate.wait(10)
        self.passes.append([asked.user for asked in requests])
        return [ConfigError("wrong") if asked.user == "bad" else [(asked.user, "", 0.0)] for asked in requests]


def _ask(model, users, **limits):
    """Ask for all users at once; the first pass holds the first user alone."""

    async def run():
        batcher = Batcher(**limits)
        await batcher.start()
        first = asyncio.create_task(batcher.recommend(model, Request(user=users[0])))
        await asyncio.sleep(0.05)
        others = [asyncio.create_task(batcher.recommend(model, Request(user=user))) for user in users[1:]]
        await asyncio.sleep(0.05)
        model.gate.set()
        found = await asyncio.gather(first, *others, return_exceptions=True)
        await batcher.stop()
        return found

    return asyncio.run(run())


def test_requests_that_wait_together_are_one_pass():
    model = Slow()
    found = _ask(model, ["a", "b", "bad", "c", "d"], largest=3)
    assert model.passes == [["a"], ["b", "bad", "c"], ["d"]]
    assert [one if isinstance(one, ConfigError) else one[0][0] for one in found][:2] == ["a", "b"]
    assert isinstance(found[2], ConfigError) and found[3][0][0] == "c"


def test_only_the_request_that_breaks_a_pass_fails():
    class Breaks(Slow):
        def recommend_each(self, requests):
            self.gate.wait(10)
            return [1 / 0 if asked.user == "bad" else [(asked.user, "", 0.0)] for asked in requests]

    found = _ask(Breaks(), ["a", "b", "bad", "c"])
    assert [one[0][0] for one in found if not isinstance(one, Exception)] == ["a", "b", "c"]
    assert isinstance(found[2], ZeroDivisionError)


def test_a_full_queue_refuses():
    found = _ask(Slow(), ["a", "b", "c", "d"], waiting=2)
    assert [type(one) for one in found] == [list, list, list, QueueFull]


def test_who_waits_too_long_gets_an_error_and_is_not_answered():
    model = Slow()

    async def run():
        batcher = Batcher(seconds=0.1)
        await batcher.start()
        found = await asyncio.gather(
            *(batcher.recommend(model, Request(user=user)) for user in "abc"), return_exceptions=True
        )
        model.gate.set()
        late = await batcher.recommend(model, Request(user="d"))
        await batcher.stop()
        return found, late

    found, late = asyncio.run(run())
    assert all(isinstance(one, TimeoutError) for one in found) and late == [("d", "", 0.0)]
    assert ["d"] in model.passes and sum(map(len, model.passes)) <= 4


def test_a_function_is_called_in_its_turn():
    async def run():
        batcher = Batcher()
        await batcher.start()
        names = await asyncio.gather(*(batcher.call(lambda: threading.current_thread().name) for _ in range(3)))
        with pytest.raises(ZeroDivisionError):
            await batcher.call(lambda: 1 / 0)
        await batcher.stop()
        return names

    assert len(set(asyncio.run(run()))) == 1


def test_clients_at_once_get_the_answers_of_one(client, loaded):
    items = list(loaded.item_ids)
    bodies = [{"history": [items[number % 7], items[number % 5 + 8]], "k": 1 + number % 6} for number in range(60)]
    expected = [[token for token, *_ in loaded.recommend(body["history"], k=body["k"])] for body in bodies]
    found: list = [None] * len(bodies)

    def ask(start):
        for number in range(start, len(bodies), 6):
            found[number] = [one["item"] for one in client.post("/recommend", json=bodies[number]).json()["items"]]

    threads = [threading.Thread(target=ask, args=(start,)) for start in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == expected


def test_an_addition_that_nobody_waits_for_is_found(loaded, monkeypatch):
    """The answer comes too late, the item is there: a search finds it, as recommendations do."""
    gate, add = threading.Event(), loaded.add_items
    monkeypatch.setattr(loaded, "add_items", lambda records: (gate.wait(10), add(records)))
    with TestClient(create_app(loaded, FACTS, batcher=Batcher(seconds=0.2))) as client:
        body = {"items": [{"item_id": "late", loaded.catalogue.title: "A Grand Day Out"}]}
        assert client.post("/items", json=body).status_code == 504
        gate.set()
        for _ in range(200):  # recommendations wait for the addition, and may be too late themselves
            if client.post("/recommend", json={"history": ["late"]}).status_code == 200:
                break
        assert [one["item"] for one in client.get("/items", params={"query": "grand day"}).json()["items"]] == ["late"]


def test_functions_of_those_who_have_given_up_are_not_called():
    called, gate = [], threading.Event()

    async def run():
        batcher = Batcher(seconds=0.2)
        await batcher.start()
        calls = [lambda: gate.wait(10), *(lambda number=number: called.append(number) for number in range(5))]
        found = await asyncio.gather(*map(batcher.call, calls), return_exceptions=True)
        gate.set()
        late = await batcher.call(lambda: "answered")
        await batcher.stop()
        return found, late

    found, late = asyncio.run(run())
    assert all(isinstance(one, TimeoutError) for one in found) and late == "answered" and not called
