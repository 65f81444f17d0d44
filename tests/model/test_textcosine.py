"""TextCosine by its definition, as a baseline and alone."""

import shutil

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from recbole_recfound import load_recfound, run_recfound
from recbole_recfound.config.configurator import Config
from recbole_recfound.data.multi_task import catalogue_of
from recbole_recfound.data.split.protocol import build_splits
from recbole_recfound.model.textcosine import TextCosine


@pytest.fixture
def settings(tiny_path, tiny_backbone, tmp_path):
    given = {"data_path": str(tiny_path), "backbone": str(tiny_backbone), "output_dir": str(tmp_path)}
    return given | {"show_progress": False, "use_gpu": False}


@torch.no_grad()
def test_scores_are_sums_of_cosines_of_mean_states(settings):
    config = Config("TextCosine", "tiny", config_dict=settings)
    splits = build_splits(config)
    model = TextCosine(config, splits.train_set)
    catalogue = catalogue_of(config, splits.train_set)
    lm = AutoModelForCausalLM.from_pretrained(settings["backbone"])
    tokenizer = AutoTokenizer.from_pretrained(settings["backbone"])
    vectors = []
    for token in splits.train_set.field2id_token[splits.train_set.iid_field][1:]:
        text = catalogue.sentence_of(catalogue.row_of[token])
        ids = tokenizer(text, add_special_tokens=False, return_tensors="pt")["input_ids"][:, :64]
        vectors.append(lm(ids, output_hidden_states=True).hidden_states[-1][0].mean(0).numpy())
    vectors = np.stack(vectors) / np.linalg.norm(vectors, axis=1, keepdims=True)
    interaction, *_ = next(iter(splits.test_data))
    found = model.full_sort_predict(interaction).view(len(interaction), -1).numpy()
    for row, user in enumerate(interaction[splits.train_set.uid_field].tolist()):
        history = splits.known_at_test.of(user)[-config["MAX_ITEM_LIST_LENGTH"] :]
        np.testing.assert_allclose(found[row, 1:], (vectors @ vectors[history - 1].T).sum(1), rtol=1e-4, atol=1e-4)
    assert (found[:, 0] == 0).all()


def test_beside_others_it_reads_with_their_backbone(settings, small_settings):
    own = {key: value for key, value in small_settings.items() if key != "data_path"}
    beside = own | settings | {"max_steps": 1, "only_tasks": ["U2I"], "baselines": ["TextCosine"]}
    row = run_recfound("RecFound", "tiny", config_dict=beside)["comparison"][0]
    alone = run_recfound("TextCosine", "tiny", config_dict=settings | {"item_args": {"max_tokens": 24}})
    assert row["model"] == "TextCosine" and row["metrics"] == alone["test_result"]


def test_a_finished_run_needs_no_backbone(settings, tiny_backbone, tmp_path):
    """The vectors of all texts are in its folder."""
    moved = shutil.copytree(tiny_backbone, tmp_path / "backbone")
    finished = run_recfound("TextCosine", "tiny", config_dict=settings | {"backbone": str(moved)})
    shutil.rmtree(moved)
    assert dict(load_recfound(finished["run_dir"]).evaluate().metrics) == pytest.approx(finished["test_result"])
    again = load_recfound(finished["run_dir"], backbone=str(tiny_backbone))
    assert len(again.recommend(["50"], k=2)) == 2 and len(again.recommend(user=again.known_users()[0], k=2)) == 2
