"""`recfound serve`: its options, and what it refuses before it loads a run."""

from __future__ import annotations

import json
import signal
import socket

import pytest

from recbole_recfound.cli import main, serve
from recbole_recfound.runtime.signals import Interrupted

pytest.importorskip("uvicorn")

from fastapi.testclient import TestClient

from recbole_recfound.serving.http import listen

LOCAL = "http://127.0.0.1"


@pytest.fixture(scope="module")
def run(tiny_path, tmp_path_factory):
    """A finished run of one of RecBole's models."""
    from recbole_recfound import run_recfound

    folder = tmp_path_factory.mktemp("runs")
    settings = {"data_path": str(tiny_path), "output_dir": str(folder), "show_progress": False, "use_gpu": False}
    return run_recfound("Pop", "tiny", config_dict=settings)["run_dir"]


@pytest.fixture
def served(monkeypatch):
    """Calls of `listen.serve`, which serves nothing."""
    calls = []

    def instead(app, listener, workers):
        calls.append((app, listener.getsockname(), workers))
        raise Interrupted(signal.SIGTERM)

    monkeypatch.setattr(listen, "serve", instead)
    return calls


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "the following arguments are required: RUN"),
        (["nowhere"], "nowhere is not a folder"),
        (["."], "is not a finished run"),
        (["RUN", "--port", "70000"], "port: got 70000, expected 0 to 65535"),
        (["RUN", "--port=-1"], "port: got -1, expected 0 to 65535"),
        (["RUN", "--port", "http"], "argument --port: invalid int value: 'http'"),
        (["RUN", "--workers", "0"], "workers: got 0, expected at least 1"),
        (["RUN", "--api_key", "schlüssel"], "api_key: expected ASCII characters"),
        (["RUN", "--api_key", ""], "api_key: got an empty key"),
        (["RUN", "--host", "no.such.host.invalid"], "host: got 'no.such.host.invalid', which is no address"),
        (["RUN", "--host", "192.0.2.1"], "port: 192.0.2.1 port 8000 cannot be used"),
        (["RUN", "--hots", "x"], "unrecognized arguments: --hots x"),
    ],
)
def test_mistakes(run, served, capsys, words, said):
    assert main(["serve", *(run if word == "RUN" else word for word in words)]) == 2
    error = capsys.readouterr().err
    assert said in error and error.startswith("error: ") and error.count("\n") == 1
    assert not served


def test_several_mistakes_at_once(run, served, capsys):
    assert main(["serve", run, "--port", "70000", "--workers", "0"]) == 2
    error = capsys.readouterr().err
    assert "port: got 70000" in error and "workers: got 0" in error


def test_a_port_in_use_is_one_line_before_the_run_is_loaded(run, served, capsys, monkeypatch):
    monkeypatch.setattr(serve, "create_app", lambda given: pytest.fail("loaded"))
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        assert main(["serve", run, "--port", str(port)]) == 2
    said = f"error: port: 127.0.0.1 port {port} cannot be used (Address already in use): choose another --port\n"
    assert capsys.readouterr().err == said


@pytest.mark.parametrize(
    ("options", "noted"),
    [
        (["--host", "0.0.0.0"], True),
        (["--host", "0.0.0.0", "--api_key", "secret"], False),
        (["--host", "127.0.0.1"], False),
        (["--host", "localhost"], False),
        ([], False),
    ],
)
def test_an_address_that_is_open_to_others_is_noted(run, served, capsys, options, noted):
    assert main(["serve", run, "--port", "0", *options]) == 143
    captured = capsys.readouterr()
    note = "note: 0.0.0.0 is open to other machines, and without --api_key to everybody on them"
    assert (note in captured.out) == noted
    ((app, (host, port), workers),) = served
    assert f"http://{host}:{port} (operations: /docs)" in captured.out and port > 0 and workers == 1
    assert captured.err == "error: interrupted by SIGTERM\n"
    with TestClient(app, base_url="http://evil.example") as client:
        # An address of this machine alone has this machine's names alone.
        assert client.get("/health").status_code == (200 if "0.0.0.0" in options else 400)


@pytest.mark.parametrize("given", ["option", "environment"])
def test_the_key(run, served, capsys, monkeypatch, given):
    monkeypatch.setenv("RECFOUND_API_KEY", "secret" if given == "environment" else "other")
    options = ["--api_key", "secret"] if given == "option" else []
    assert main(["serve", run, "--port", "0", *options]) == 143
    with TestClient(served[0][0], base_url=LOCAL) as client:
        for key, status in (("secret", 200), ("other", 401), ("", 401)):
            answer = client.post("/recommend", json={"user": "1", "k": 2}, headers={"X-API-Key": key})
            assert answer.status_code == status
    assert "secret" not in capsys.readouterr().out


def test_workers_get_the_words_of_the_command(run, served, capsys, monkeypatch):
    monkeypatch.setenv(serve.ENVIRONMENT, "")
    assert main(["serve", run, "--port", "0", "--workers", "2"]) == 143
    ((app, _, workers),) = served
    assert (app, workers) == (serve.WORKER, 2)
    assert "(2 workers; operations: /docs)" in capsys.readouterr().out
    with TestClient(serve.create_worker(), base_url=LOCAL) as client:
        assert client.get("/health").json()["model"] == "Pop"
        answer = client.post("/items", json={"items": [{"item_id": "new"}]})
        assert answer.status_code == 400 and "--workers 1" in answer.json()["error"]


def test_a_worker_that_cannot_start_ends_in_a_way_that_uvicorn_knows(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv(serve.ENVIRONMENT, json.dumps([str(tmp_path)]))
    with pytest.raises(SystemExit) as ended:
        serve.create_worker()
    from uvicorn.config import STARTUP_FAILURE

    assert ended.value.code == STARTUP_FAILURE and "is not a finished run" in capsys.readouterr().err


def test_addresses():
    with listen.bind("127.0.0.1", 0) as listener:
        assert listen.url_of(listener) == f"http://127.0.0.1:{listener.getsockname()[1]}"
    if socket.has_ipv6:
        try:
            with listen.bind("::1", 0) as listener:
                assert listen.url_of(listener).startswith("http://[::1]:")
        except ValueError:  # no such interface
            pass
