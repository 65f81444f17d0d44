"""Requests made from the server's own schema: each gets an answer that the schema describes, and none breaks it."""

from __future__ import annotations

import random
import signal

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from recbole_recfound import load_recfound
from tests.server import Server

pytest.importorskip("schemathesis", reason="schemathesis is not installed")
import schemathesis
from schemathesis import GenerationMode
from schemathesis.checks import load_all_checks
from schemathesis.specs.openapi.checks import negative_data_rejection, positive_data_acceptance

load_all_checks()
OPERATIONS = ("POST /recommend", "GET /items", "POST /items", "POST /generate", "GET /health")
KEY = {"X-API-Key": "secret"}
TOKENS = ("history", "exclude", "candidates")


@pytest.fixture(scope="module")
def server(page_run):
    with Server(page_run, RECFOUND_API_KEY="secret") as started:
        yield started
        assert httpx.get(f"{started.url}/health").json()["waiting"] == 0
        code, printed = started.stop(signal.SIGTERM)
        assert code == 143 and "Traceback" not in printed, printed


@pytest.fixture(scope="module")
def schema(server):
    loaded = schemathesis.openapi.from_url(f"{server.url}/openapi.json")
    # A body that is too large is refused, too.
    loaded.config.checks.negative_data_rejection.expected_statuses += ["413"]
    return loaded


@pytest.fixture(scope="module")
def tokens(page_run):
    """Tokens of items and users."""
    loaded = load_recfound(page_run)
    return list(loaded.item_ids), loaded.known_users()


def test_all_operations_are_here(schema):
    assert sorted(one.ok().label for one in schema.get_all_operations()) == sorted(OPERATIONS)


@pytest.mark.parametrize("mode", list(GenerationMode))
@pytest.mark.parametrize("operation", OPERATIONS)
def test_every_answer_is_as_described(schema, operation, mode):
    method, path = operation.split()
    asked = schema[path][method]
    if mode is GenerationMode.NEGATIVE and path == "/health":
        pytest.skip("nothing can be wrong with it")

    # A token that nobody has is right by the schema, and refused.
    excluded = [positive_data_acceptance]
    if method == "GET":  # a wrong parameter whose value is an empty list is nothing in an address
        excluded.append(negative_data_rejection)

    @given(asked.as_strategy(generation_mode=mode))
    @settings(max_examples=500, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    def ask(case):
        case.call_and_validate(headers=KEY, excluded_checks=excluded)

    ask()


def test_known_tokens_in_any_mixture(schema, tokens):
    """Most tokens of a schema's own requests are unknown: here they are known ones, so that the models answer."""
    items, users = tokens
    found = []

    @given(schema["/recommend"]["POST"].as_strategy(), st.integers(0, 2**32))
    @settings(max_examples=1000, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    def ask(case, seed):
        rng = random.Random(seed)
        body = case.body
        for name in TOKENS:
            if body.get(name) is not None:
                body[name] = [rng.choice(items) for _ in body[name]]
        body["model"] = rng.choice([None, "EASE", "Pop", "SASRec", "BPR"])
        if rng.random() < 0.9:  # else whatever the schema's request has, such as both a history and a user
            for name in ("history", "user", "query", "domains", "task"):
                body.pop(name, None)
            given_as = {"history": rng.sample(items, rng.randrange(9)), "user": rng.choice(users)}
            name = rng.choice(list(given_as))
            body[name] = given_as[name]
        answer = case.call_and_validate(headers=KEY, excluded_checks=[positive_data_acceptance])
        found.append(answer.status_code)

    ask()
    assert found.count(200) > len(found) / 2
