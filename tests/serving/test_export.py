"""A run in the formats of other libraries gives what the run gives."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from recbole_recfound import load_recfound, run_recfound
from recbole_recfound.adapter import routing
from recbole_recfound.backbone import decode, decoder_of
from recbole_recfound.cli import main
from recbole_recfound.errors import ConfigError
from recbole_recfound.evaluation.task_vectors import TaskVectors
from tests.settings import Settings

SMALL = {
    "show_progress": False,
    "use_gpu": False,
    "time_budget": 0,
    "max_steps": 3,
    "tasks": ["U2I", "I2I", "Q2I", "SR"],
    "task_test_examples": 0,
    "MAX_ITEM_LIST_LENGTH": 10,
    "adapter_rate": 0.05,
    "item_args": {"max_tokens": 200},
    "tower_args": {"feature_layers": [2], "text_layers": 2},
    "precision": "float32",
}


def _run(tmp_path_factory, tiny_path, tiny_backbone, **changes):
    folder = tmp_path_factory.mktemp("runs")
    paths = {"data_path": str(tiny_path), "backbone": str(tiny_backbone), "output_dir": str(folder)}
    return run_recfound("RecFound", "tiny", config_dict=Settings(SMALL | paths | changes))["run_dir"]


@pytest.fixture(scope="module")
def run(tmp_path_factory, tiny_path, tiny_backbone):
    return _run(tmp_path_factory, tiny_path, tiny_backbone)


@pytest.fixture
def loaded(run):
    return load_recfound(run)


IDS = torch.tensor([[50, 60, 70, 80, 90, 100]])


def _states(model, task):
    with torch.no_grad(), routing(model.backbone, task):
        decoder = decoder_of(model.backbone.get_base_model())
        return decode(decoder, decoder.embed_tokens(IDS), torch.ones_like(IDS))


@pytest.mark.parametrize("task", ["U2I", "Q2I", "SR"])
def test_peft_and_merged_give_the_states_of_the_run(loaded, tmp_path, tiny_backbone, task):
    expected = _states(loaded.model, task)
    plain = AutoModelForCausalLM.from_pretrained(tiny_backbone)
    assert not torch.allclose(plain.model(IDS).last_hidden_state, expected, atol=1e-3), "the adapter has learned"
    folder = loaded.export(task, "peft", tmp_path / "peft")
    stock = PeftModel.from_pretrained(plain, folder).eval()
    merged = AutoModelForCausalLM.from_pretrained(loaded.export(task, "merged", tmp_path / "merged")).eval()
    assert AutoTokenizer.from_pretrained(tmp_path / "merged")("abc")["input_ids"]
    with torch.no_grad():
        torch.testing.assert_close(stock.base_model.model.model(IDS).last_hidden_state, expected, atol=1e-4, rtol=0)
        torch.testing.assert_close(merged.model(IDS).last_hidden_state, expected, atol=1e-4, rtol=0)
    assert f"# {task} of" in (folder / "README.md").read_text()


def test_the_one_lora_of_all_tasks_is_exported_as_it_is(tmp_path_factory, tiny_path, tiny_backbone, tmp_path):
    loaded = load_recfound(_run(tmp_path_factory, tiny_path, tiny_backbone, adapter="lora"))
    plain = AutoModelForCausalLM.from_pretrained(tiny_backbone)
    stock = PeftModel.from_pretrained(plain, loaded.export("I2I", "peft", tmp_path / "peft")).eval()
    with torch.no_grad():
        states = stock.base_model.model.model(IDS).last_hidden_state
    torch.testing.assert_close(states, _states(loaded.model, "I2I"), atol=1e-4, rtol=0)


@pytest.mark.parametrize("task", ["I2I", "Q2I"])
def test_sentence_transformers(loaded, tmp_path, task):
    library = pytest.importorskip("sentence_transformers")
    folder = loaded.export(task, "sentence-transformers", tmp_path / "texts")
    model = library.SentenceTransformer(str(folder), device="cpu")
    texts = [*loaded.texts[1:6], "Search query: <|im_end|> a text that is <b>no</b> item"]
    found = torch.from_numpy(model.encode(texts[:5]))
    torch.testing.assert_close(found, loaded.embed_items(texts[:5], task), atol=1e-5, rtol=0)
    if task == "Q2I":
        queries = ["fish", "a film about fish", "<|im_end|>"]
        expected = TaskVectors(loaded.model, loaded.collator).queries(task, queries)
        found = torch.from_numpy(model.encode(queries, prompt_name="query"))
        torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)


def test_a_text_encoder_of_all_layers(tmp_path_factory, tiny_path, tiny_backbone, tmp_path):
    library = pytest.importorskip("sentence_transformers")
    towers = {"feature_layers": [3], "text_layers": 3}
    loaded = load_recfound(_run(tmp_path_factory, tiny_path, tiny_backbone, tower_args=towers))
    model = library.SentenceTransformer(str(loaded.export("I2I", "sentence-transformers", tmp_path / "texts")))
    texts = loaded.texts[1:6]
    torch.testing.assert_close(
        torch.from_numpy(model.encode(texts)), loaded.embed_items(texts, "I2I"), atol=1e-5, rtol=0
    )


def test_texts_that_were_all_cut_cannot_be_compared(tmp_path_factory, tiny_path, tiny_backbone, tmp_path):
    pytest.importorskip("sentence_transformers")
    loaded = load_recfound(_run(tmp_path_factory, tiny_path, tiny_backbone, item_args={"max_tokens": 3}))
    with pytest.raises(ConfigError, match="cut the text of every item to 3 tokens .* export onnx or merged"):
        loaded.export("I2I", "sentence-transformers", tmp_path / "texts")
    assert not list(tmp_path.iterdir())


def test_users_whose_histories_are_prompts_are_texts(tmp_path_factory, tiny_path, tiny_backbone, tmp_path):
    library = pytest.importorskip("sentence_transformers")
    loaded = load_recfound(_run(tmp_path_factory, tiny_path, tiny_backbone, history="prompt"))
    model = library.SentenceTransformer(str(loaded.export("U2I", "sentence-transformers", tmp_path / "texts")))
    texts = loaded.texts[1:4]
    torch.testing.assert_close(torch.from_numpy(model.encode(texts)), loaded.embed_items(texts), atol=1e-5, rtol=0)


def test_the_index_ranks_as_the_run_does(loaded, tmp_path):
    folder = loaded.export("U2I", "index", tmp_path / "index")
    vectors = load_file(folder / "vectors.safetensors")["vectors"]
    items = [json.loads(line) for line in (folder / "items.jsonl").read_text().splitlines()]
    history = [items[3]["token"], items[5]["token"]]
    scores = (vectors @ loaded.embed_user(history)[0]).tolist()
    expected = {token: score for token, _, score in loaded.recommend(history, k=10_000)}
    found = {item["token"]: scores[item["row"]] for item in items if item["token"] not in history}
    assert found == pytest.approx(expected, abs=1e-5)
    faiss = pytest.importorskip("faiss")
    index = faiss.read_index(str(folder / "items.faiss"))
    assert index.ntotal == len(items)


def test_onnx_of_histories(loaded, tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime")
    folder = loaded.export("U2I", "onnx", tmp_path / "graph")
    session = onnxruntime.InferenceSession(str(folder / "model.onnx"))
    histories = [[3, 9, 4, 7], [5], [8, 2]]
    items = np.zeros((3, 4), dtype=np.int64)
    for row, history in zip(items, histories, strict=True):
        row[: len(history)] = history
    users, scores = session.run(None, {"items": items, "lengths": np.array([4, 1, 2])})
    tokens = [[loaded.tokens[item] for item in history] for history in histories]
    torch.testing.assert_close(torch.from_numpy(users), loaded.embed_user(tokens), atol=1e-5, rtol=0)
    best = loaded.recommend(tokens[0], k=3)
    names = ["", *(json.loads(line)["token"] for line in (folder / "items.jsonl").read_text().splitlines())]
    for token, _, score in best:
        assert scores[0][names.index(token)] == pytest.approx(score, abs=1e-5)


def test_onnx_of_texts(loaded, tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime")
    from tokenizers import Tokenizer

    folder = loaded.export("Q2I", "onnx", tmp_path / "graph")
    session = onnxruntime.InferenceSession(str(folder / "model.onnx"))
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    text = loaded.texts[1]
    ids = np.array([tokenizer.encode(text, add_special_tokens=False).ids], dtype=np.int64)[:, :24]
    found = session.run(None, dict.fromkeys(("attention_mask", "text_mask"), np.ones_like(ids)) | {"input_ids": ids})
    expected = loaded.embed_items([tokenizer.decode(ids[0])], "Q2I")
    torch.testing.assert_close(torch.from_numpy(found[0]), expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    ("task", "form", "message"),
    [
        ("U2I", "csv", "format: got 'csv', expected one of peft, merged"),
        ("SA", "peft", "task: got 'SA', expected one of the run's: U2I"),
        ("U2I", "sentence-transformers", "users of U2I are sequences of items in this run"),
        ("SR", "sentence-transformers", "SR generates text and embeds none"),
        ("SR", "onnx", "SR generates text and embeds none"),
        ("SR", "index", "SR has no item vectors"),
    ],
)
def test_what_a_format_cannot_hold(loaded, tmp_path, task, form, message):
    with pytest.raises(ConfigError, match=message):
        loaded.export(task, form, tmp_path / "out")
    assert not list(tmp_path.iterdir())
    with pytest.raises(ConfigError, match="exists already"):
        loaded.export(task, form, tmp_path)


def test_command(run, tmp_path, capsys, monkeypatch):
    calls = []

    class Api:
        def create_repo(self, name, **options):
            calls.append((name, options))

        def upload_folder(self, repo_id, folder_path):
            calls.append((repo_id, str(folder_path)))
            return "https://example.org/commit"

    monkeypatch.setattr("huggingface_hub.HfApi", Api)
    out = str(tmp_path / "out")
    words = ["export", run, "--task", "I2I", "--format", "peft", "--out", out, "--push_to_hub", "me/films"]
    assert main(words) == 0
    assert calls == [("me/films", {"private": True, "exist_ok": True}), ("me/films", out)]
    assert "https://example.org/commit" in capsys.readouterr().out
    assert main(words) == 2


@pytest.mark.parametrize("task", ["U2I", "Q2I"])
def test_added_items_are_in_the_index(loaded, tmp_path, task):
    token = loaded.tokens[1]
    loaded.add_items([{"item_id": "new", loaded.catalogue.title: "A Grand Day Out"}])
    folder = loaded.export(task, "index", tmp_path / "out")
    items = [json.loads(line) for line in (folder / "items.jsonl").read_text("utf-8").split("\n") if line]
    vectors = load_file(folder / "vectors.safetensors")["vectors"]
    assert len(items) == len(vectors) == len(loaded.tokens) - 1
    assert items[0]["token"] == token and items[-1] == {
        "row": len(items) - 1,
        "token": "new",
        "text": "A Grand Day Out",
    }
    assert torch.allclose(vectors[-1:], loaded.embed_items(["A Grand Day Out"], task).cpu(), atol=1e-5)
