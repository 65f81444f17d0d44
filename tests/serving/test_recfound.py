"""A finished run of RecFound is enough by itself."""

from __future__ import annotations

import json
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from recbole_recfound import load_recfound, run_recfound
from recbole_recfound.config.configurator import Config
from recbole_recfound.data.split.protocol import build_splits
from recbole_recfound.errors import ConfigError, DataError
from recbole_recfound.evaluation.task_vectors import TaskVectors
from recbole_recfound.model.generation import Generator
from recbole_recfound.model.pretrained import read_base
from recbole_recfound.runtime.file_digests import sealed
from recbole_recfound.serving.data import splits_of
from recbole_recfound.serving.request import Request
from recbole_recfound.system.recfound.system import RecFoundSystem

MODES = {
    "item": {},
    "positions": {"history": "positions"},
    "prompt": {"history": "prompt"},
    "late": {"history": "late"},
}


def _run(settings, monkeypatch, **changes):
    """A run, and the scores [users, num_items] of its final model with the histories that it had in the test."""
    scores = {}
    save = RecFoundSystem._save

    def watched(self):
        save(self)
        model = self.built.model.eval()
        for interaction, *_ in self.splits.test_data:
            rows = model.full_sort_predict(interaction).view(len(interaction), -1)
            users = self.splits.test_set.id2token("user_id", interaction["user_id"])
            scores.update(zip(map(str, users), rows, strict=True))

    monkeypatch.setattr(RecFoundSystem, "_save", watched)
    return run_recfound("RecFound", "tiny", config_dict=settings | changes), scores


@pytest.mark.parametrize("mode", MODES)
def test_without_data_set_and_record_files(small_run, tiny_path, tmp_path, monkeypatch, mode):
    data = tmp_path / "data"
    shutil.copytree(tiny_path, data)
    records = tmp_path / "records.jsonl"
    lines = [
        {"text": [f"Same? {number}", "yes" if number % 2 else "no"], "task": "Product_Matching"} for number in range(8)
    ]
    records.write_text("\n".join(map(json.dumps, lines)))
    settings = small_run | {"data_path": str(data), "task_files": [str(records)], "batch_args": {"generative": 4}}
    result, expected = _run(settings, monkeypatch, **MODES[mode])
    splits = build_splits(Config("RecFound", "tiny", config_dict=settings))
    histories = {
        user: [str(splits.test_set.id2token("item_id", item)) for item in splits.known_at_test.of(number)]
        for user in expected
        for number in [splits.test_set.token2id("user_id", user)]
    }
    tokens = [str(token) for token in splits.test_set.field2id_token["item_id"]]
    shutil.rmtree(data)
    records.unlink()

    loaded = load_recfound(result["run_dir"])
    users = list(expected)[:5]
    for user, row in zip(users, loaded.recommend_batch([histories[user] for user in users], k=10_000), strict=True):
        found = {token: score for token, _, score in row}
        assert set(found) == set(tokens[1:]) - set(histories[user]), "k is capped by the catalogue"
        for token, score in found.items():
            assert abs(score - expected[user][tokens.index(token)].item()) <= 1e-5
    assert loaded.generate("PM", prompt="Same? red shoe; red shoe") in ("yes", "no")
    with pytest.raises(ConfigError, match="user: the run has no histories.safetensors and its data set cannot be read"):
        loaded.recommend(user="1")


@pytest.fixture(scope="module")
def finished(tiny_path, tiny_backbone, tmp_path_factory):
    """A finished run with histories of its users."""
    folder = tmp_path_factory.mktemp("served")
    settings = {
        "data_path": str(tiny_path),
        "backbone": str(tiny_backbone),
        "output_dir": str(folder),
        "show_progress": False,
        "use_gpu": False,
        "precision": "float32",
        "time_budget": 0,
        "max_steps": 4,
        "eval_interval": 2,
        "item_args": {"refresh_interval": 3, "max_tokens": 24},
        "probe_args": {"interval": 4, "size": 2},
        "tower_args": {"feature_layers": [3]},
        "adapter_args": {"r": 2},
        "batch_args": {"embedding": 4, "sequence_targets": 1, "generative": 2, "contrastive": 2, "generative_chunk": 2},
        "task_args": {"*": {"max_examples": 30, "history_titles": 3}, "SR": {"candidates": 4}},
        "max_prompt_tokens": 400,
        "test_args": {"max_answer_tokens": 8},
        "task_test_examples": 0,
        "load_col": {"inter": ["user_id", "item_id", "rating", "timestamp"]},
        "save_histories": True,
    }
    return run_recfound("RecFound", "tiny", config_dict=settings)["run_dir"]


@pytest.fixture
def loaded(finished):
    return load_recfound(finished)


def test_known_users_from_stored_histories(loaded, finished, tiny_path, tmp_path):
    user = next(iter(loaded._users().users))
    copy = tmp_path / "copy"
    shutil.copytree(finished, copy)
    (copy / "histories.safetensors").unlink()
    from_data = load_recfound(copy, data_path=str(tiny_path))
    assert loaded.recommend(user=user) == from_data.recommend(user=user)
    history = [loaded.tokens[item] for item in loaded._history_of(loaded._user_id(user))]
    assert loaded.recommend(user=user) == loaded.recommend(history)
    torch.testing.assert_close(loaded.score([user], history[:1]), loaded.score([history], history[:1]))


def test_recommendations_have_texts_and_obey_their_limits(loaded):
    history = list(loaded.item_ids)[:3]
    best = loaded.recommend(history, k=4)
    assert len(best) == 4 and [score for *_, score in best] == sorted((score for *_, score in best), reverse=True)
    assert all(text.startswith(json.loads(line)["title"]) for token, text, _ in best for line in _lines(loaded, token))
    first = best[0][0]
    assert loaded.recommend(history, k=3, exclude=[first]) == best[1:]
    chosen = [token for token, *_ in best[1:3]]
    assert loaded.recommend(history, candidates=chosen) == best[1:3]
    pairs = loaded.score([history] * 2, chosen)
    torch.testing.assert_close(pairs, torch.tensor([score for *_, score in best[1:3]]))
    assert loaded.recommend_batch(iter([iter(history)]), k=4) == [best], "any iterable is a list"
    assert torch.equal(loaded.score(iter([history] * 2), iter(chosen)), pairs)


def _lines(loaded, token):
    lines = (loaded.saved.folder / "items.jsonl").read_text().splitlines()
    return [line for line in lines if json.loads(line)["token"] == token]


def test_recboles_case_study_works_on_the_model_of_a_run(loaded, finished):
    from recbole.utils.case_study import full_sort_topk

    splits = splits_of(Path(finished), read_base(finished, False), {"seed": read_base(finished, False).seed})
    users = ["1", "7", "12"]
    ids = [splits.test_set.token2id("user_id", user) for user in users]
    scores, items = full_sort_topk(ids, loaded.model, splits.test_data, k=5)
    for user, row, values in zip(ids, items, scores, strict=True):
        history = splits.test_set.id2token("item_id", splits.known_at_test.of(user))
        best = loaded.recommend(list(map(str, history)), k=5)
        assert list(splits.test_set.id2token("item_id", row)) == [token for token, *_ in best]
        torch.testing.assert_close(values, torch.tensor([score for *_, score in best]), atol=1e-5, rtol=0)


def test_embeddings(loaded):
    history = list(loaded.item_ids)[:3]
    one, several = loaded.embed_user(history), loaded.embed_user([history, history[:1]])
    assert one.shape == (1, several.shape[1]) and one.dtype == torch.float32
    torch.testing.assert_close(one[0], several[0])
    for task in ("U2I", "I2I", "Q2I"):
        vectors = loaded.embed_items([loaded.texts[1], "a film about fish"], task=task)
        torch.testing.assert_close(vectors.norm(dim=1), torch.ones(2))
    scores = loaded.score([history], [loaded.tokens[1]])
    torch.testing.assert_close(one @ loaded.model.item_vectors()[1], scores)


def test_answers_are_those_of_a_closed_task(loaded):
    items = list(loaded.item_ids)
    assert loaded.generate("SR", history=items[:3], candidates=items[4:7]) in "ABC"
    answers = loaded.saved.choices["SA"]
    assert (
        loaded.generate("SA", history=[(items[0], "4"), (items[1], "5")], item=items[2], ratings="1, 2, 3, 4 or 5")
        in answers
    )
    assert isinstance(loaded.generate("IP", item="a film about fish"), str)


def test_answers_are_as_long_as_is_asked_for(loaded):
    short, usual, long = (loaded.generate("IP", item="fish", max_new_tokens=most) for most in (2, 8, 30))
    assert loaded.generate("IP", item="fish") == usual, "that of the run"
    assert usual.startswith(short) and long.startswith(usual) and len(short) < len(usual) < len(long)


def test_a_query_ranks_items_as_the_test_of_its_task_does(loaded):
    texts = ["a film about fish", loaded.texts[3]]
    best = loaded.recommend_batch(queries=texts, k=len(loaded.tokens))
    items = loaded.embed_items(loaded.texts[1:], task="Q2I")
    vectors = TaskVectors(loaded.model, loaded.collator).queries("Q2I", texts)
    expected = vectors @ items.T
    for row, scores in zip(best, expected, strict=True):
        found = torch.tensor([score for *_, score in sorted(row, key=lambda one: loaded.item_ids[one[0]])])
        torch.testing.assert_close(found, scores, atol=1e-5, rtol=0)
    again = loaded.recommend(query=texts[0], k=2, exclude=[best[0][0][0]])
    assert [token for token, *_ in again] == [token for token, *_ in best[0][1:3]]
    loaded.add_items([{"item_id": "new", loaded.catalogue.title: "a film about fish"}])
    assert "new" in [token for token, *_ in loaded.recommend(query=texts[0], k=len(loaded.tokens))]


def test_the_texts_of_all_items_are_encoded_once_for_queries(loaded, finished, monkeypatch):
    """A catalogue takes minutes on a CPU: longer than a request may."""
    encode, whole = loaded.model.text_vectors, []

    def counted(task, tokens=None):
        whole.append(tokens is None)
        return encode(task, tokens)

    monkeypatch.setattr(loaded.model, "text_vectors", counted)
    loaded.prepare()
    assert whole == [True]
    loaded.add_items([{"item_id": "new", loaded.catalogue.title: "a film about fish"}])
    loaded.evaluate()
    best = loaded.recommend(query="fish", k=10_000)
    assert whole == [True, False]
    fresh = load_recfound(finished)
    fresh.add_items([{"item_id": "new", loaded.catalogue.title: "a film about fish"}])
    expected = {token: score for token, _, score in fresh.recommend(query="fish", k=10_000)}
    assert {token: score for token, _, score in best} == pytest.approx(expected, abs=1e-5) and "new" in expected


def test_a_cold_item_needs_only_its_id(loaded):
    token = loaded.cold_items[0]
    loaded.add_items([{"item_id": token}])
    assert loaded.texts[-1] == loaded.catalogue.sentence_of(loaded.catalogue.row_of[token])
    assert token not in loaded.cold_items and loaded.recommend(["1"], candidates=[token])[0][0] == token


def test_requests_may_be_generators(loaded):
    items = list(loaded.item_ids)[:4]
    histories = [items[:2], items[2:]]
    expected = loaded.recommend_batch(histories, k=3)
    assert loaded.recommend_batch((iter(history) for history in histories), k=np.int64(3)) == expected
    users = loaded.known_users()[:2]
    assert loaded.recommend_batch(users=iter(users)) == loaded.recommend_batch(users=users)
    torch.testing.assert_close(loaded.score(iter(users), iter(items[:2])), loaded.score(users, items[:2]))


def test_parts_of_a_large_request_are_answered_alike(loaded, monkeypatch):
    histories = [[token] for token in list(loaded.item_ids)[:7]]
    expected = loaded.recommend_batch(histories, k=3)
    monkeypatch.setattr("recbole_recfound.serving.recommender.SCORES", 3 * len(loaded.tokens))
    found = loaded.recommend_batch(histories, k=3)
    assert [[token for token, *_ in row] for row in found] == [[token for token, *_ in row] for row in expected]


def test_texts_are_scored_in_parts_too(loaded, monkeypatch):
    texts = [f"a film about {word}" for word in ("fish", "space", "war", "love", "dogs", "crime", "music")]
    expected = loaded.recommend_batch(queries=texts, k=3)
    sizes, scores = [], loaded._text_scores
    monkeypatch.setattr(loaded, "_text_scores", lambda some: sizes.append(len(some)) or scores(some))
    monkeypatch.setattr("recbole_recfound.serving.recommender.SCORES", 3 * len(loaded.tokens))
    found = loaded.recommend_batch(queries=texts, k=3)
    assert sizes == [3, 3, 1]
    assert [[token for token, *_ in row] for row in found] == [[token for token, *_ in row] for row in expected]


def test_requests_with_limits_of_their_own_are_answered_together(loaded):
    items, users = list(loaded.item_ids), loaded.known_users()
    requests = [
        Request(history=items[:3], k=4),
        Request(user=users[2], k=2, exclude=items[:5]),
        Request(query="a film about fish", k=3),
        Request(history=["nothing"]),
        Request(history=items[:1], k=10_000, candidates=items[3:9]),
        Request(history=items[:2], user=users[0]),
        Request(history=items[:2], k=0),
        Request(history=items[:2], domains={"gender": "F"}),
    ]
    answers = loaded.recommend_each(requests)
    for asked, answer in zip(requests[:3] + requests[4:5], answers[:3] + answers[4:5], strict=True):
        alone = loaded.recommend(
            asked.history,
            user=asked.user,
            query=asked.query,
            k=asked.k,
            exclude=asked.exclude,
            candidates=asked.candidates,
        )
        assert [token for token, *_ in answer] == [token for token, *_ in alone]
        assert [score for *_, score in answer] == pytest.approx([score for *_, score in alone], abs=1e-5)
    wrong = [str(answers[number]) for number in (3, 5, 6, 7)]
    assert all(isinstance(answers[number], ConfigError) for number in (3, 5, 6, 7))
    for text, message in zip(wrong, ("unknown token 'nothing'", "give either", "k: got 0", "no kernels"), strict=True):
        assert message in text


def test_threads_that_ask_while_items_are_added(loaded):
    history, count = list(loaded.item_ids)[:3], 12
    before = loaded.recommend(history, k=10_000)

    def ask(number):
        if number % 3 == 0:
            loaded.add_items([{"item_id": f"new-{number}", loaded.catalogue.title: f"Film {number}"}])
        return loaded.recommend(history, k=10_000)

    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(ask, range(count)))
    for answer in answers:
        kept = {token: score for token, _, score in answer if not token.startswith("new-")}
        assert kept == pytest.approx({token: score for token, _, score in before}, abs=1e-6)
    assert len(loaded.recommend(history, k=10_000)) == len(before) + 4


def test_a_large_catalogue_is_searched_with_faiss(loaded, monkeypatch, capsys):
    pytest.importorskip("faiss")
    histories = [list(loaded.item_ids)[start : start + 3] for start in range(6)]
    known = loaded.tokens[1:6]
    exact = [
        loaded.recommend_batch(histories, k=5),
        loaded.recommend_batch(histories, k=5, exclude=known),
        loaded.recommend_batch(histories, k=5, candidates=known),
    ]
    monkeypatch.setattr("recbole_recfound.serving.index.EXACT_ITEMS", 10)
    monkeypatch.setattr("recbole_recfound.serving.index.MOST_PROBES", 1.0)
    monkeypatch.setattr("recbole_recfound.serving.index.RECALL", 1.0)
    found = [
        loaded.recommend_batch(histories, k=5),
        loaded.recommend_batch(histories, k=5, exclude=known),
        loaded.recommend_batch(histories, k=5, candidates=known),
    ]
    out = capsys.readouterr().out
    assert "faiss reads" in out and "100.0% of the exact ten best (used)" in out and out.count("faiss") == 1
    for expected, answers in zip(exact, found, strict=True):
        for one, other in zip(expected, answers, strict=True):
            assert [token for token, *_ in one] == [token for token, *_ in other]
            assert [score for *_, score in one] == pytest.approx([score for *_, score in other], abs=1e-5)
    loaded.add_items([{"item_id": "new", loaded.catalogue.title: "A Grand Day Out"}])
    assert len(loaded.recommend(histories[0], k=10_000)) == len(loaded.tokens) - 1 - 3


def test_evaluation_on_other_data_ranks_new_items_by_their_text(loaded, tiny_path, tmp_path):
    """One item gets another text: it is another item, though its token is known."""
    expected = loaded.evaluate()
    assert expected.new_items == 0
    data = tmp_path / "tiny"
    shutil.copytree(tiny_path / "tiny", data)
    lines = (data / "tiny.item").read_text(encoding="utf-8").splitlines()
    head = lines[0].split("\t")
    ids, title = head.index("item_id:token"), head.index(f"{loaded.catalogue.title}:token_seq")
    changed = [line.split("\t") for line in lines]
    token = next(iter(loaded.item_ids))
    next(cells for cells in changed if cells[ids] == token)[title] = "A film that nobody knows"
    (data / "tiny.item").write_text("\n".join("\t".join(cells) for cells in changed), encoding="utf-8")
    before = loaded.recommend([token], k=10_000)
    found = loaded.evaluate(data_path=str(tmp_path))
    assert found.new_items == 1 and found.metrics.keys() == expected.metrics.keys()
    assert loaded.recommend([token], k=10_000) == before, "the run itself is as it was"
    again = loaded.evaluate()
    assert again.metrics == expected.metrics and again.new_items == 0


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        (lambda run: run.recommend(["nothing"]), "item_id: unknown token 'nothing'"),
        (lambda run: run.recommend(["nothing", "more"]), "unknown token 'nothing' and 1 more"),
        (lambda run: run.recommend([1]), r"item_id: unknown token 1 \(tokens are text\)"),
        (lambda run: run.recommend("12"), r"item_id: got '12', expected a list, as in \['12'\]"),
        (lambda run: run.recommend(user="nobody"), "user_id: unknown token 'nobody'"),
        (lambda run: run.recommend(user="[PAD]"), r"user_id: unknown token '\[PAD\]'"),
        (lambda run: run.recommend(), "either a history of item tokens, user=TOKEN or query=TEXT"),
        (lambda run: run.recommend(["1"], user="1"), "either a history of item tokens, user=TOKEN or query=TEXT"),
        (lambda run: run.recommend(["1"], k=0), "k: got 0, expected a whole number of at least 1"),
        (lambda run: run.recommend(["1"], k=2.5), "k: got 2.5, expected a whole number"),
        (lambda run: run.recommend(["1"], k=True), "k: got True, expected a whole number"),
        (lambda run: run.recommend([["1"]]), "unknown token"),
        (lambda run: run.recommend(user=["1"]), "unknown token"),
        (lambda run: run.recommend_batch([]), "histories: got an empty list"),
        (lambda run: run.recommend_batch(5), "histories: got 5, expected a list"),
        (lambda run: run.recommend([]), "item_id: got an empty list"),
        (lambda run: run.recommend_batch([["1"], []]), "item_id: got an empty list"),
        (lambda run: run.embed_user([]), "item_id: got an empty list"),
        (lambda run: run.embed_user(None), "item_id: got None, expected a list"),
        (lambda run: run.embed_user("1"), "item_id: got '1', expected a list"),
        (lambda run: run.score(None, ["1"]), "users_or_histories: got None, expected a list"),
        (lambda run: run.score([[]], ["1"]), "item_id: got an empty list"),
        (lambda run: run.recommend(["1"], k=None), "k: got None, expected a whole number"),
        (lambda run: run.recommend(["1"], domains=5), "domains: got 5, expected a name"),
        (lambda run: run.recommend_batch([["1"]], domains="F"), "domains: got 'F', expected a list"),
        (lambda run: run.recommend_batch([["1"]], domains=["F", "M"]), "domains: got 2 names, expected one per row"),
        (lambda run: run.embed_items([None]), "texts: got None, expected a text"),
        (lambda run: run.embed_items([" "]), "texts: got ' ', expected a text"),
        (lambda run: run.embed_items(["\ud800"]), "texts: .* no valid Unicode"),
        (lambda run: run.recommend({"1", "7"}), "item_id: got a set, which has no order"),
        (lambda run: run.embed_user({"1", "7"}), "item_id: got a set, which has no order"),
        (lambda run: run.add_items([{"item_id": "new", "movie_title": "\ud800"}]), "movie_title: .* no valid Unicode"),
        (
            lambda run: run.add_items([{"item_id": "new", "movie_title": ["a"]}]),
            "movie_title: got .*, expected a text",
        ),
        (lambda run: run.add_items([{"item_id": "new", "movie_title": float("nan")}]), "'new' has none of movie_title"),
        (
            lambda run: run.add_items([{"item_id": float("nan"), "movie_title": "x"}]),
            "item_id: got nan: each record needs",
        ),
        (lambda run: run.add_items([{"item_id": "  ", "movie_title": "x"}]), "item_id: got '  ': each record needs"),
        (lambda run: run.add_items([{"item_id": 7.0, "movie_title": "x"}]), "item_id: got 7.0: each record needs"),
        (lambda run: run.add_items([{"item_id": True, "movie_title": "x"}]), "item_id: got True: each record needs"),
        (lambda run: run.add_items(None), "add_items: got None, expected a list$"),
        (lambda run: run.add_items({"item_id": "new"}), "add_items: got {'item_id': 'new'}, expected a list"),
        (lambda run: run.add_items(["new"]), "add_items: got 'new', expected a record of names and values"),
        (lambda run: run.add_items([{"item_id": "new", "colour": "red"}]), "item_id 'new' has none of movie_title"),
        (lambda run: run.recommend(query="x", user="1"), "either a history"),
        (lambda run: run.recommend(["1"], domains="F"), "no kernels of domains"),
        (lambda run: run.recommend(["1"], candidates=[]), "got an empty list"),
        (lambda run: run.score(["1", "2"], ["1"]), "got 2 users and 1 items"),
        (lambda run: run.embed_items(["x"], task="SR"), "expected one of U2I"),
        (lambda run: run.generate("U2I"), "task: got 'U2I', expected one of SR"),
        (lambda run: run.generate("IP", item="x", max_new_tokens=0), "max_new_tokens: got 0, expected a whole number"),
        (lambda run: run.generate("IP", item="x", max_new_tokens=1 << 20), "max_new_tokens: .* expected at most"),
        (lambda run: run.generate("SR", history=["1"]), "SR: got history, expected candidates, history"),
    ],
)
def test_wrong_requests(loaded, request_, message):
    with pytest.raises(ConfigError, match=message):
        request_(loaded)


def test_damaged_runs(finished, tmp_path, tiny_backbone):
    for name, text, error, message in (
        ("results.json", "{", DataError, "results.json: damaged .*: restore it, or run again"),
        ("results.json", '{"system": "RecFound", "format": 1}', ConfigError, "format 1 of a run folder, expected 5"),
        ("results.json", json.dumps(sealed({"format": 6})), ConfigError, "format 6 of a run folder, expected 5"),
        ("head.safetensors", "x", DataError, "head.safetensors: 1 bytes, expected .*: restore it, or run again"),
        ("results.json", None, ConfigError, "not a finished run"),
        ("adapter", None, DataError, "adapter/adapter_model.safetensors: missing: restore it, or run again"),
    ):
        folder = tmp_path / f"{name}-{text and len(text)}"
        shutil.copytree(finished, folder)
        if text is not None:
            (folder / name).write_text(text)
        elif name == "adapter":
            shutil.rmtree(folder / name)
        else:
            (folder / name).unlink()
        with pytest.raises(error, match=message):
            load_recfound(folder)


def test_another_backbone_is_refused(finished, tiny_backbone, tmp_path):
    from tests.tiny_backbone import write_tiny_backbone

    (tmp_path / "other").mkdir()
    other = write_tiny_backbone(tmp_path / "other")
    weights = load_file(other / "model.safetensors")
    name = next(iter(weights))
    weights[name] = weights[name] + 1.0
    from safetensors.torch import save_file

    save_file(weights, other / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ConfigError, match="backbone: got .*other"):
        load_recfound(finished, backbone=str(other))
    assert load_recfound(finished, backbone=str(tiny_backbone)).recommend(["1"], k=1)
    assert not list(Path(finished).glob("*.partial"))


def test_a_relative_backbone_is_found_from_another_working_directory(small_run, tiny_backbone, tmp_path, monkeypatch):
    shutil.copytree(tiny_backbone, tmp_path / "backbone")
    run = run_recfound("RecFound", "tiny", config_dict=small_run | {"backbone": "backbone", "max_steps": 1})["run_dir"]
    run = str(Path(run).resolve())
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert len(load_recfound(run).recommend(history=["50"], k=3)) == 3


def test_ratings_in_a_request_are_those_of_training(small_run, monkeypatch):
    loaded = load_recfound(
        run_recfound("RecFound", "tiny", config_dict=small_run | {"tasks": ["U2I", "SA"]})["run_dir"]
    )
    first, second, *_ = loaded.item_ids

    def ask(history):
        return loaded.generate("SA", history=history, item=second, ratings="1, 2, 3, 4, 5")

    prompts = []

    def seen(self, task, example):
        prompts.append(example.slots["history"])

    monkeypatch.setattr(type(loaded.collator), "prompt", seen)
    monkeypatch.setattr(Generator, "answers", lambda self, *given: [""])
    for rating in (None, float("nan"), 4, 4.0, "4", 4.5):
        ask([[first, rating]])
    assert [rating for _, ((_, rating),) in prompts] == ["not rated", "not rated", "4", "4", "4", "4.5"]
    for wrong in ([[first, {"a": 1}]], [[first, [1]]]):
        with pytest.raises(ConfigError, match="history: got .*, expected a text"):
            ask(wrong)
