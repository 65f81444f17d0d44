"""What the student learns from a run: texts, scores, labels and projections."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from recbole_recfound.data.behaviour.dataset import ROW
from recbole_recfound.data.text.tokens import plain_tokens
from recbole_recfound.edge.teacher import TARGETS, Teacher, check_teacher
from recbole_recfound.errors import ConfigError
from recbole_recfound.runtime.file_digests import sealed


def test_training_groups_are_training_rows_with_labels_and_the_teachers_scores(teacher):
    groups = teacher.training_groups(60, np.random.default_rng(0))
    assert 60 <= sum(len(group.labels) for group in groups) < 60 + TARGETS
    model, features = teacher.model, teacher.splits.train_set.inter_feat
    for group in groups:
        rows = group.rows[ROW].numpy()
        assert (rows < len(features)).all() and len(set(model.log.users[rows])) == 1
        assert np.array_equal(group.labels, features[model.label_field].numpy()[rows])
        assert np.array_equal(group.pack.targets, model.texts.of_known[rows])
        first = model.texts.source(int(model.log.users[rows[0]]), float(model.log.times[rows].min()))
        assert np.array_equal(group.pack.source.segments, first.segments)
    with torch.no_grad():
        expected = model.predict(features).numpy()
    found = np.concatenate([group.scores for group in groups])
    np.testing.assert_allclose(found, expected[np.concatenate([group.rows[ROW] for group in groups])], atol=1e-5)


def test_held_out_labels_are_never_learned(teacher):
    """Planted: with other labels and items of validation and test rows, all training examples stay as they are."""
    expected = teacher.training_groups(200, np.random.default_rng(0))
    held_out = (teacher.splits.valid_set.inter_feat, teacher.splits.test_set.inter_feat)
    labels = [part[teacher.model.label_field].clone() for part in held_out]
    try:
        for part, own in zip(held_out, labels, strict=True):
            part.interaction[teacher.model.label_field] = 1 - own
        found = teacher.training_groups(200, np.random.default_rng(0))
    finally:
        for part, own in zip(held_out, labels, strict=True):
            part.interaction[teacher.model.label_field] = own
    for one, other in zip(expected, found, strict=True):
        assert np.array_equal(one.labels, other.labels) and np.array_equal(one.scores, other.scores)


def test_requests_are_histories_of_unknown_users(teacher, loaded):
    groups = teacher.request_groups(5, 4, np.random.default_rng(0))
    texts = teacher.texts
    for group in groups:
        assert texts[group.pack.source.segments[0]] == "User: unknown" and len(group.scores) == 4
        assert np.isnan(group.labels).all()
        names, length = teacher.model.history_fields
        history = group.rows[names][0][: int(group.rows[length][0])]
        tokens = [teacher.items[item - 1] for item in history.tolist()]
        items = [teacher.items[item - 1] for item in group.rows[teacher.model.item_field].tolist()]
        served = {token: score for token, _, score in loaded.recommend(history=tokens, candidates=items, k=4)}
        for token, score in zip(items, group.scores, strict=True):
            assert token in tokens or served[token] == pytest.approx(score, abs=1e-5)


def test_test_groups_have_the_scores_of_the_run(teacher, loaded):
    groups = teacher.test_groups()
    order = np.argsort(np.concatenate([group.rows[ROW] for group in groups]))
    labels = np.concatenate([group.labels for group in groups])[order]
    assert np.array_equal(labels, teacher.splits.test_set.inter_feat[teacher.model.label_field].numpy())
    with torch.no_grad():
        expected = teacher.model.predict(teacher.splits.test_set.inter_feat).numpy()
    np.testing.assert_allclose(np.concatenate([group.scores for group in groups])[order], expected, atol=1e-5)


@pytest.mark.parametrize("layer", [1, 3])
def test_projections_come_from_one_pass_in_which_the_source_sees_no_target(teacher, layer):
    source, target = (plain_tokens([text], teacher.model.cache.tokenizer)[0] for text in ("User: unknown", "Toy Story"))
    found = teacher.projections(source, target, layer)
    assert [states.shape for states in found] == [(22, 32), (22, 16), (22, 16)]
    changed = teacher.projections(source, [*target[:-1], target[-1] + 1], layer)
    for own, other in zip(found, changed, strict=True):
        torch.testing.assert_close(own[:-1], other[:-1])
        assert not torch.allclose(own[-1], other[-1])
    reversed_source = teacher.projections([source[0], *source[:0:-1]], target, layer)
    assert layer == 1 or not torch.allclose(found[0][0], reversed_source[0][0])


def test_a_layer_beyond_the_teachers_is_refused(teacher):
    assert teacher.check_layer(None) == 3
    with pytest.raises(ConfigError, match="relation_layer: got 4, but the teacher has 3 layers"):
        teacher.check_layer(4)


def test_a_teacher_that_is_no_m6rec_run(finished, tmp_path):
    check_teacher(finished)
    results = json.loads((finished / "results.json").read_text())
    (tmp_path / "results.json").write_text(json.dumps(sealed({**results, "system": "IAK"})))
    with pytest.raises(ConfigError, match="is a run of IAK, expected a teacher that is an M6Rec run"):
        check_teacher(tmp_path)
    with pytest.raises(ConfigError, match="not a folder"):
        check_teacher(tmp_path / "nowhere")
    rows = [{**row, "task": "retrieval"} for row in results["rows"]]
    (tmp_path / "results.json").write_text(json.dumps(sealed({**results, "rows": rows})))
    with pytest.raises(ConfigError, match="teacher: its first task is retrieval, expected ctr"):
        check_teacher(tmp_path)
    rows = [{**row, "mode": "online statistics"} for row in results["rows"]]
    (tmp_path / "results.json").write_text(json.dumps(sealed({**results, "rows": rows})))
    with pytest.raises(ConfigError, match="statistics: online} count held-out rows"):
        check_teacher(tmp_path)


def test_a_teacher_with_statistics_of_held_out_rows(loaded, monkeypatch):
    monkeypatch.setattr(loaded.model, "text", replace(loaded.model.text, statistics="online"))
    with pytest.raises(ConfigError, match="statistics: online} count held-out rows"):
        Teacher(loaded.model, loaded.splits)
