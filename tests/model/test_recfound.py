"""RecFound as a RecBole model: scores, controls, what is trained."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from recbole.data.interaction import Interaction
from torch.nn import functional as F
from transformers import Gemma2Config, GraniteConfig, MistralConfig

from recbole_recfound.adapter import routing
from recbole_recfound.backbone import decoder_of, head_of
from recbole_recfound.data.split.protocol import held_out
from recbole_recfound.errors import BackboneError, ConfigError, DataError
from recbole_recfound.model.example_losses import example_losses
from recbole_recfound.model.factors import collaborative_factors
from recbole_recfound.model.trained import trained_parameters
from tests.small_model import build_small, perturb
from tests.tiny_backbone import write_tiny_backbone

MODES = [{}, {"history": "positions"}, {"history": "prompt"}, {"history": "late"}]


def _ready(settings, **changes):
    small = build_small(settings, **changes)
    perturb(small.model, std=0.2)
    small.model.refresh_items()
    small.model.eval()
    return small


def _interaction(small):
    (interaction, *_), *_ = list(small.splits.test_data)
    return interaction


@pytest.mark.parametrize("mode", MODES, ids=str)
def test_full_ranking_equals_predict_and_ignores_the_rest_of_the_batch(small_run, mode):
    small = _ready(small_run | mode)
    model, interaction = small.model, _interaction(small)
    scores = model.full_sort_predict(interaction).reshape(len(interaction), -1)
    assert scores.shape[1] == model.n_items and scores.dtype == torch.float32
    items = torch.randint(1, model.n_items, (len(interaction),), generator=torch.Generator().manual_seed(0))
    pairs = Interaction({**interaction.interaction, model.ITEM_ID: items})
    torch.testing.assert_close(model.predict(pairs), scores.gather(1, items[:, None])[:, 0])
    lengths = interaction["item_length"]
    for row in (0, int(lengths.argmin()), int(lengths.argmax())):
        one = Interaction(
            {
                "item_id_list": interaction["item_id_list"][row : row + 1, : lengths[row]],
                "item_length": lengths[row : row + 1],
            }
        )
        torch.testing.assert_close(model.full_sort_predict(one), scores[row], atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("mode", MODES, ids=str)
def test_ranks_with_the_state_that_was_trained_to_predict_the_next_item(small_run, mode):
    """The validation probe's loss, recomputed from the scores of a full ranking."""
    small = _ready(small_run | mode | {"item_args": {"use_id": False}})
    model = small.model
    (part,) = small.loader.probe_batch("U2I").parts
    if not model.history.uses_item_table:
        users = model.unit_vectors(part.query_ids, part.query_mask, part.query_text, part.tasks, slice(None))
        known = small.splits.known_at_valid
        by_vector = [model.user_vectors(*_padded(known.of(user))) for user in _probe_users(small)]
        torch.testing.assert_close(torch.cat(by_vector), users, atol=1e-5, rtol=1e-4)
        return
    losses = model.example_losses(part)
    rows = part.targets.max(1)
    lengths = (part.items > 0).sum(1)
    scores = model.full_sort_predict(Interaction({"item_id_list": part.items, "item_length": lengths})).reshape(
        len(lengths), -1
    )
    for row, read in enumerate(part.items):
        # The evaluation masks what the user had; so does the loss.
        scores[row, read[read != rows.values[row]]] = -1e4
    logits = scores[:, 1:] / model.temperature
    expected = torch.logsumexp(logits, 1) - logits.gather(1, rows.values[:, None] - 1)[:, 0]
    torch.testing.assert_close(losses, expected, atol=1e-4, rtol=1e-4)


def _padded(items):
    return torch.from_numpy(items)[None], torch.tensor([len(items)])


def _probe_users(small):
    pairs = held_out(small.splits.valid_set)
    order = np.random.default_rng([small.config["seed"], 0xA11]).permutation(len(pairs))
    return pairs[order[: 4 * small.config["probe_args"]["size"]], 0]


def test_user_without_history_gets_finite_scores(small_run):
    for mode in MODES:
        model = _ready(small_run | mode).model
        empty = Interaction(
            {"item_id_list": torch.zeros(2, 1, dtype=torch.long), "item_length": torch.zeros(2, dtype=torch.long)}
        )
        assert model.full_sort_predict(empty).isfinite().all()


def test_item_ids_and_catalogue_indices_are_not_mixed_up(small_run):
    small = _ready(small_run)
    dataset, catalogue, inputs = small.splits.dataset, small.built.catalogue, small.model.parts
    item_ids, tokenizer = inputs.data.item_ids, inputs.data.collator.tokenizer
    different = 0
    for iid in range(1, dataset.item_num):
        row = item_ids.index_of_id[iid]
        assert catalogue.tokens[row] == dataset.id2token("item_id", iid)
        assert item_ids.id_of_index[row] == iid
        different += row != iid
        text = tokenizer.decode(inputs.item_tokens[iid])
        assert text and catalogue.sentence_of(row).startswith(text)
    assert different > 50 and len(inputs.item_tokens[0]) == 0


def test_scores_keep_full_precision_under_autocast(small_run):
    small = _ready(small_run)
    with torch.autocast(small.device.type, dtype=torch.bfloat16):
        scores = small.model.eval().full_sort_predict(_interaction(small)).reshape(-1, small.model.n_items)
    assert scores.dtype == torch.float32
    assert all(len(row.unique()) > 0.99 * len(row) for row in scores)


def test_table_needs_eval_and_follows_the_weights(small_run):
    model = _ready(small_run).model
    before = model.item_vectors().clone()
    assert model.item_vectors() is model.item_vectors()
    with torch.no_grad():
        model.item_table.text.weight.add_(0.1)
    assert not torch.equal(model.eval().item_vectors(), before)
    with pytest.raises(RuntimeError, match="eval"):
        model.train().item_vectors()


def test_refreshed_items_follow_the_adapter(small_run):
    small = build_small(small_run)
    small.model.refresh_items()
    before = small.model.item_table.features.clone()
    perturb(small.model, std=0.2)
    small.model.refresh_items()
    changed = (small.model.item_table.features - before).abs().amax(0) > 1e-4
    end = small.model.item_table.text_size
    plain = end - len(small.model.text_mean)
    assert changed[plain:end].all() and not changed[:plain].any() and not changed[end:].any()


def test_random_controls_differ_and_keep_the_texts_centre(small_run):
    plain, body, features = (
        build_small(small_run, **change) for change in ({}, {"control": "random_body"}, {"control": "random_item_text"})
    )
    before = [weight.clone() for weight in body.model._decoder.layers.parameters()]
    for small in (plain, body, features):
        small.model.refresh_items()
    moved = [
        not torch.equal(old, new)
        for old, new in zip(before, body.model._decoder.layers.parameters(), strict=True)
        if not new.requires_grad and new.dim() == 2
    ]
    assert moved and all(moved)
    torch.testing.assert_close(plain.model.item_table.features, body.model.item_table.features)
    torch.testing.assert_close(plain.model.text_mean, features.model.text_mean)
    assert not torch.allclose(plain.model.item_table.features, features.model.item_table.features)


def test_adapter_none_trains_no_adapter_and_keeps_it_silent(small_run):
    small = build_small(small_run, control="no_adapter")
    small.model.refresh_items()
    assert trained_parameters(small.model) and not any(
        name.startswith("backbone.") for name in trained_parameters(small.model)
    )
    silent = [weight for name, weight in small.model.named_parameters() if "lora_B" in name]
    assert silent and all(not weight.any() for weight in silent)


@pytest.mark.parametrize(
    ("mode", "absent"), [(MODES[0], ()), (MODES[1], ()), (MODES[2], ("item_table.", "user_tower."))]
)
def test_only_what_a_mode_reads_is_trained(small_run, mode, absent):
    names = trained_parameters(build_small(small_run | mode).model)
    for part in ("item_table.text", "item_table.ids", "user_tower."):
        hidden = any(part.startswith(prefix) for prefix in absent)
        assert any(name.startswith(part) for name in names) != hidden, part


@pytest.mark.parametrize(
    ("tasks", "layers", "trained"),
    [(["U2I"], 1, {0}), (["U2I", "I2I"], 1, {0, 1}), (["U2I", "SR"], 1, {0, 1, 2}), (["U2I"], 0, set())],
)
def test_only_layers_that_run_are_trained(small_run, tmp_path, tasks, layers, trained):
    depth = {"tower_args": {"user_layers": layers or None, "text_layers": 2}, "control": None if layers else "no_body"}
    small = build_small(small_run, tasks=tasks, max_steps=2, **depth)
    names = [name for name in trained_parameters(small.model) if name.startswith("backbone.")]
    found = {int(name.split(".layers.")[1].split(".")[0]) for name in names if ".layers." in name}
    assert found == trained and bool(names) == bool(trained)
    small.trainer(tmp_path).fit(small.loader, small.splits.valid_data, verbose=False)


def test_losses_of_a_step_are_means_over_examples(small_run):
    small = build_small(small_run, dropout=0.0, item_args={"text_alone": 0.0})
    small.model.refresh_items()
    small.model.train()
    batch = small.loader.collate(
        {name: [(i, i) for i in range(3 + at)] for at, name in enumerate(("U2I", "I2I", "Q2I", "SR", "IP"))}
    )
    losses = small.model.calculate_loss(batch)
    by_kind = {True: [], False: []}
    by_task = {}
    for part in batch.parts:
        found = small.model.example_losses(part)
        by_kind["Generative" in type(part).__name__].append(found)
        for task, loss in zip(part.tasks, found, strict=True):
            by_task.setdefault(task, []).append(loss)
    torch.testing.assert_close(losses[0], torch.cat(by_kind[False]).mean())
    torch.testing.assert_close(losses[1], torch.cat(by_kind[True]).mean())
    assert set(small.model.task_losses) == set(batch.counts) == set(by_task)
    for task, found in by_task.items():
        assert len(found) == batch.counts[task]
        torch.testing.assert_close(small.model.task_losses[task], torch.stack(found).mean().detach())
    small.model.task_weights = {"U2I": 2.0}
    weighted = small.model.calculate_loss(batch)[0]
    torch.testing.assert_close(weighted - losses[0], torch.stack(by_task["U2I"]).sum() / 12)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"control": "no_body"} | MODES[1], "control: no_body .* needs soft tokens"),
        ({"control": "small_reader"} | MODES[1], "control: small_reader .* soft tokens"),
        (
            {"control": "small_reader", "tower_args": {"user_layers": 1}},
            "control: small_reader .* leave tower_args: user_layers out",
        ),
        ({"control": "no_adapter"} | MODES[2], "control: no_adapter leaves nothing to train"),
        ({"item_args": {"use_text": False, "use_id": False}}, "item_args: use_text and use_id"),
        (
            {"adapter_args": {"target_modules": ["q_proj", "embed_tokens"]}},
            "target_modules: .* no linear layer 'embed_tokens', only q_proj",
        ),
        ({"adapter_args": {"target_modules": ["nothing"]}}, "target_modules: .* no linear layer 'nothing'"),
        (
            {"adapter_args": {"target_modules": ["q_proj", "lm_head"]}},
            "target_modules: got the head of the language model, expected maps of its layers",
        ),
        ({"adapter_args": {"target_modules": ".*lm_head"}}, "target_modules: got the head of the language model"),
        ({"prompts": {"QQ": "x"}}, "prompts: unknown task 'QQ'"),
        ({"prompts": {"SR": "{{ item }}"}}, "prompt of task SR"),
        ({"max_prompt_tokens": 40}, "max_prompt_tokens: 40"),
        (
            {"max_prompt_tokens": 200, "task_args": {"SR": {"candidates": 20}}},
            "max_prompt_tokens: 200 leaves no room for data in the prompt of SR",
        ),
        ({"tasks": ["I2I"], "control": "random_body"}, "control: random_body is one of rankings"),
        (
            {"task_args": {"U2I": {"hard_negatives": 2}}},
            "task_args: U2I: hard_negatives: read with history: prompt only",
        ),
    ],
)
def test_settings_that_make_no_model(small_run, changes, said):
    with pytest.raises(ConfigError, match=said):
        build_small(small_run, **changes)


def test_generative_losses_are_those_of_the_models_own_logits(small_run, tmp_path):
    """Granite divides its logits."""
    folder = write_tiny_backbone(tmp_path / "granite", family=GraniteConfig, logits_scaling=8.0)
    small = build_small(small_run | {"backbone": str(folder), "tasks": ["U2I", "SR"]})
    model, base = small.model.eval(), small.model.backbone.get_base_model()
    with torch.no_grad():
        head_of(base).weight.mul_(50)
        (part,) = small.loader.probe_batch("SR").parts
        with routing(model.backbone, part.tasks):
            logits = base(input_ids=part.input_ids, attention_mask=part.attention_mask).logits
        own = F.cross_entropy(logits[:, :-1].mT, part.labels[:, 1:], reduction="none")
        wanted = (part.labels[:, 1:] != -100).sum(1)
        torch.testing.assert_close(example_losses(model, part), own.sum(1) / wanted)


def test_a_model_with_unknown_logits_writes_no_texts(small_run, monkeypatch, tmp_path):
    folder = write_tiny_backbone(tmp_path / "granite", family=GraniteConfig, logits_scaling=8.0)
    monkeypatch.setattr("recbole_recfound.backbone.head.scaled_logits", lambda model, logits: logits)
    settings = small_run | {"backbone": str(folder)}
    build_small(settings, tasks=["U2I"])
    with pytest.raises(BackboneError, match="a granite model changes its logits .* leave generative tasks out"):
        build_small(settings, tasks=["U2I", "SR"])


def test_titles_that_are_to_be_ranked_fit_into_a_window(small_run, tmp_path):
    """Known before the training, after which they are ranked."""
    folder = write_tiny_backbone(tmp_path / "mistral", family=MistralConfig, sliding_window=410)
    settings = small_run | {"backbone": str(folder), "tasks": ["U2I", "SR"]}
    settings |= {"test_args": {"rank_titles": 5}, "task_args": {"SR": {"form": "title"}}}
    with pytest.raises(BackboneError, match=r"the last 410 states alone.*: take a lower max_prompt_tokens or another"):
        build_small(settings)
    build_small(settings, max_prompt_tokens=380)
    build_small(settings, test_args={"rank_titles": 0})


def test_item_vectors_are_as_long_as_token_embeddings_are_read(small_run, tmp_path):
    """Gemma multiplies its token embeddings when they are looked up."""
    folder = write_tiny_backbone(tmp_path / "gemma", family=Gemma2Config, head_dim=8)
    small = build_small(small_run | {"backbone": str(folder), "tasks": ["U2I"]})
    model = small.model
    model.refresh_items()
    embedded = decoder_of(model.backbone.get_base_model()).embed_tokens(torch.arange(3, 200)).norm(dim=-1).mean()
    read = model.eval().table()[0][1:].norm(dim=-1).mean()
    assert read.item() == pytest.approx(embedded.item(), rel=0.1)


def test_feature_layers_deeper_than_the_backbone_give_its_last(small_run):
    small = build_small(small_run, tower_args={"feature_layers": [2, 30, 40]})
    small.model.refresh_items()
    assert small.model.frozen_layers == [2, 3]
    assert small.model.item_table.text_size == 4 * len(small.model.text_mean)


def test_factors_of_the_training_rows_alone_are_in_the_item_table(small_run, tmp_path):
    """Other held-out items change no factor; permuted ones are a control; a new item has none."""
    small = build_small(small_run)
    small.model.refresh_items()
    table = small.model.item_table
    factors = table.features[:, table.text_size :]
    train = small.splits.train_set.inter_feat
    users, items = train["user_id"].numpy(), train["item_id"].numpy()
    expected = collaborative_factors(users, items, small.model.n_items, 64, small.model.seed)()
    torch.testing.assert_close(factors, expected)
    seen = torch.zeros(small.model.n_items, dtype=torch.bool)
    seen[torch.from_numpy(items)] = True
    assert factors[seen].any(1).all() and not factors[~seen].any()
    permuted = build_small(small_run, control="permuted_factors")
    permuted.model.refresh_items()
    others = permuted.model.item_table.features[:, table.text_size :]
    assert not torch.equal(others, factors) and torch.equal(others.sort(0)[0], factors.sort(0)[0])
    without = build_small(small_run, item_args={"factors": 0})
    assert without.model.item_table.features.shape[1] == table.text_size
    texts = small.model.parts.item_tokens
    vectors = small.model.vectors_of_texts(texts)
    table.features[:, table.text_size :] = 0.0
    if table.ids is not None:
        torch.nn.init.zeros_(table.ids.weight)
    torch.testing.assert_close(vectors[1:], small.model.eval().item_vectors()[1:], atol=1e-4, rtol=0)


def _with_file(small_run, tmp_path, suffix, text):
    """The tiny data set with one more file."""
    folder = shutil.copytree(Path(small_run["data_path"]) / "tiny", tmp_path / "copy" / "tiny")
    (folder / f"tiny.{suffix}").write_bytes(text)
    return small_run | {"data_path": str(folder.parent)}


def test_real_queries_are_read_from_their_file(small_run, tmp_path):
    splits = build_small(small_run).splits
    trained = splits.train_set.inter_feat["item_id"].unique()[:20]
    items = [str(token) for token in splits.train_set.id2token("item_id", trained)]
    rows = "".join(f'{item}\tquery of "{item}" caf\u00e9\n' for item in items)
    settings = _with_file(small_run, tmp_path, "query", ("item_id:token\tquery:token_seq\n" + rows).encode())
    small = build_small(settings, tasks=["U2I", "Q2I"])
    asked = {
        example.query
        for example in (small.built.tasks["Q2I"].example(index) for index in range(len(small.built.tasks["Q2I"])))
    }
    held = {example.query for example in small.built.tests["Q2I"].examples}
    assert asked and asked < {f'query of "{item}" caf\u00e9' for item in items} and not asked & held
    assert "keyword" not in small.built.tasks["Q2I"].note


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"item_id:token\n1\n", "tiny.query:1: needs two columns"),
        (b"item_id:token\tquery:token_seq\n1\tshoe\nnone\tshoe\n", "tiny.query:3: item 'none' is neither"),
        (b"item_id:token\tquery:token_seq\n1\t \n", "tiny.query:2: the query of item '1' is empty"),
        (b"item_id:token\tquery:token_seq\n1\tcaf\xe9\n", "tiny.query:2: not UTF-8"),
    ],
)
def test_queries_that_cannot_be_used_name_file_and_line(small_run, tmp_path, text, message):
    with pytest.raises(DataError, match=message):
        build_small(_with_file(small_run, tmp_path, "query", text))


def test_text_files_may_have_another_encoding(small_run, tmp_path):
    items = Path(small_run["data_path"], "tiny", "tiny.item").read_bytes().decode()
    token = items.splitlines()[1].split("\t")[0]
    title = items.splitlines()[1].split("\t")[1]
    settings = _with_file(small_run, tmp_path, "item", items.replace(title, "Caf\u00e9", 1).encode("latin-1"))
    small = build_small(settings, encoding="latin-1", tasks=["U2I"])
    collator = small.model.parts.data.collator
    assert any(
        "Caf\u00e9" in collator.tokenizer.decode(collator.texts.titles[row])
        for row in range(len(collator.texts.titles))
    ), token
