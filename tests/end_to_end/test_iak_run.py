"""Whole IAK runs: from data to table, report and a recommender that serves mixed domains."""

import json
import re
import shutil
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file

from benchmarks.flipped import SETTINGS, write_flipped
from recbole_recfound.errors import BackboneError, ConfigError, DataError
from recbole_recfound.evaluation.report.table import format_table
from recbole_recfound.quick_start import load_recfound, run_recfound
from recbole_recfound.runtime.file_digests import write_digests
from recbole_recfound.runtime.run_folder import identity_of
from recbole_recfound.system.iak.layers import list_layers
from recbole_recfound.system.iak.system import SELECTED_BETA, IAKSystem
from recbole_recfound.system.request import Request
from recbole_recfound.system.run import resolved_settings
from tests.damage import reseal
from tests.small_iak import small_base

QUICK = {
    "show_progress": False,
    "use_gpu": False,
    "time_budget": 0,
    "epochs": 2,
    "iak_args": {"least_steps": 4},
    "train_batch_size": 32,
}


@pytest.fixture(scope="module")
def finished(tmp_path_factory, tiny_path):
    """A run on DeepFM with every baseline and a sweep of beta."""
    settings = (
        QUICK
        | small_base("DeepFM", epochs=2)
        | {"data_path": str(tiny_path), "output_dir": str(tmp_path_factory.mktemp("runs"))}
    )
    settings |= {"domain": ["gender"], "iak_args": {"least_steps": 4, "beta": [1e-4, 1e-2]}}
    settings |= {"tuning_baselines": ["frozen", "full", "head", "bitfit", "adapter", "lora", "scratch"]}
    return run_recfound("IAK", "tiny", config_dict=settings)


def test_the_table(finished):
    names = [row["model"] for row in finished["comparison"]]
    assert names == [
        "frozen",
        "full",
        "head",
        "bitfit",
        "adapter",
        "lora",
        "scratch",
        "IAK beta=0.0001",
        "IAK beta=0.01",
        SELECTED_BETA,
    ]
    assert "KiB" in format_table(finished["comparison"]).splitlines()[0]
    for row in finished["comparison"]:
        assert row["checkpoint_bytes"] > 0 or row["model"] == "frozen"
        assert {"auc", "logloss", "gauc", "weighted auc"} == set(row["metrics"])
        assert (
            set(row["domains"]["gender"]) == {"F", "M"}
            and sum(d["rows"] for d in row["domains"]["gender"].values()) > 20
        )
    *_, first, second, chosen = finished["comparison"]
    best = min(first, second, key=lambda row: row["valid_metrics"]["logloss"])
    assert chosen["metrics"] == best["metrics"] and chosen["note"].startswith(f"that of {best['model']};")
    assert finished["best_valid_result"] == best["valid_metrics"] and finished["test_result"] == best["metrics"]


def test_rows_say_that_their_training_did_not_reach_early_stopping(finished):
    assert {row["converged"] for row in finished["comparison"]} == {False}
    for row in finished["comparison"]:
        assert row["note"].endswith("not converged: stopped after 2 epochs"), row["model"]
    assert "not converged" in format_table(finished["comparison"]).splitlines()[2], "the base"


def test_the_frozen_row_says_what_its_base_says(finished, tiny_path, tmp_path):
    base = shutil.copytree(Path(finished["run_dir"]) / "base", tmp_path / "base")
    settings = QUICK | {"data_path": str(tiny_path), "output_dir": str(tmp_path / "runs"), "domain": ["gender"]}
    settings |= {"base_checkpoint": str(base), "epochs": 9, "learning_rate": 1e-12, "stopping_step": 1}
    settings["tuning_baselines"] = ["adapter"]
    frozen, adapter, ours = run_recfound("IAK", "tiny", config_dict=settings)["comparison"]
    assert (frozen["converged"], frozen["note"]) == (False, "not converged: stopped after 2 epochs")
    assert adapter["converged"] and "not converged" not in adapter["note"], "trained to its own end"
    assert ours["converged"] and "not converged" not in ours["note"]
    document = json.loads((base / "base.json").read_text())
    del document["training"]
    (base / "base.json").write_text(json.dumps(document))
    write_digests(base)
    frozen, *_ = run_recfound("IAK", "tiny", config_dict=settings | {"seed": 1})["comparison"]
    assert (frozen["converged"], frozen["note"]) == (None, "")


def test_the_report_shows_where_the_seconds_went(finished):
    folder = Path(finished["run_dir"])
    facts = json.loads((folder / "results.json").read_text())["run"]
    parts = "training of the base", "tuning baselines", "training steps", "validation", "test"
    assert all(facts["seconds"][part] > 0 for part in parts)
    assert sum(facts["seconds"].values()) == pytest.approx(facts["total_seconds"], abs=1)
    page = (folder / "report.html").read_text()
    assert "<h2>Time</h2><svg" in page and "data and backbone" in page and "{&#39;data" not in page


def test_the_folder(finished):
    folder = Path(finished["run_dir"])
    results = json.loads((folder / "results.json").read_text())
    assert [point["beta"] for point in results["sweep"]] == [1e-4, 1e-2]
    assert results["without_domain"] == {"gender": {"train": 0, "test": 0}}
    assert yaml.safe_load((folder / "config.yaml").read_text())["model"] == "IAK"
    page = (folder / "report.html").read_text()
    for heading in ("Comparison", "Domains: gender", "Losses", "Information kept"):
        assert heading in page
    assert page.count("<svg") >= 5 and "<script" not in page
    kept = json.loads((folder / "chosen.json").read_text())["kernels"]
    tensors = load_file(folder / kept)
    base = load_file(folder / "base" / "base.safetensors")
    assert all(len(tensor) == 2 for tensor in tensors.values()), "kernels only: every tensor has a domain first"
    assert not set(tensors) & set(base)
    document = json.loads((folder / kept).with_suffix(".json").read_text())
    assert len(document["base_hash"]) == 64 and document["domains"][0]["names"] == ["F", "M"]


def test_serving_scores_mixed_domains_in_one_pass(finished):
    loaded = load_recfound(finished["run_dir"])
    data = loaded.splits.train_set
    users = [str(token) for token in data.field2id_token["user_id"][1:21]]
    items = [str(token) for token in data.field2id_token["item_id"][1:21]]
    assert len(set(loaded.model.domains[0].table[1:21].tolist())) == 2
    mixed = loaded.score(users, items)
    torch.testing.assert_close(
        mixed, torch.cat([loaded.score([user], [item]) for user, item in zip(users, items, strict=True)])
    )
    base = loaded.score(users, items, [None] * 20)
    loaded.model.banks[0].enabled.fill_(False)
    assert torch.equal(loaded.score(users, items), base)
    best = loaded.recommend_batch(users=users[:3], k=4)
    assert [len(row) for row in best] == [4, 4, 4] and best[0][0][2] >= best[0][3][2]
    assert loaded.recommend(user=users[0], k=4) == best[0]
    with pytest.raises(ConfigError, match="reads no histories but users by their ids: give user=TOKEN"):
        loaded.recommend(items[:3])
    with pytest.raises(ConfigError, match="user_id: unknown token 'nobody'"):
        loaded.score(["nobody"], items[:1])


def test_what_is_loaded_is_what_was_tested(finished):
    loaded = load_recfound(finished["run_dir"])
    from recbole_recfound.evaluation.domains import DomainScorer

    splits = loaded.splits
    loaders = {"valid": splits.valid_data, "test": splits.test_data}
    scorer = DomainScorer(loaded.model.base, loaded.model.domains, splits.train_data, loaders)
    found = scorer.summary(scorer.collect(loaded.model, "test"), "test")
    assert found["metrics"] == {
        key: value for key, value in finished["test_result"].items() if not key.startswith("weighted")
    }


def test_metrics_are_checked_with_those_of_the_base(tiny_path, tmp_path):
    """What is typed is no mistake because it does not fit the defaults of models that rank."""
    settings = QUICK | small_base("DeepFM") | {"data_path": str(tiny_path), "output_dir": str(tmp_path / "runs")}
    settings |= {"domain": ["gender"], "metrics": ["AUC", "LogLoss"], "epochs": 1}
    result = run_recfound("IAK", "tiny", config_dict=settings)
    assert {"auc", "logloss"} <= result["test_result"].keys()
    with pytest.raises(ConfigError, match="valid_metric: got NDCG@10, expected one of metrics: AUC, LogLoss"):
        run_recfound("IAK", "tiny", config_dict=settings | {"valid_metric": "NDCG@10"})


def test_kernels_at_two_places_are_trained_and_served(tiny_path, tmp_path):
    settings = QUICK | small_base("DeepFM", epochs=2)
    settings |= {"data_path": str(tiny_path), "output_dir": str(tmp_path / "runs")}
    settings |= {"domain": ["gender"], "kernel_args": {"layer": ["input:mlp_layers", "input:deep_predict_layer"]}}
    result = run_recfound("IAK", "tiny", config_dict=settings)
    (row,) = [row for row in result["comparison"] if "IAK" in row["model"]]
    loaded = load_recfound(result["run_dir"])
    assert [len(kernels.places) for kernels in loaded.model.banks] == [2]
    assert row["parameters_per_domain"] == loaded.model.banks[0].trained_per_domain()
    assert loaded.evaluate().metrics == pytest.approx(
        {name: value for name, value in result["test_result"].items() if not name.startswith("weighted")}, abs=1e-4
    )


@pytest.mark.parametrize(
    ("base", "changes"),
    [
        ("SASRec", {}),
        ("SASRec", {"repeatable": True}),
        ("SASRec", {"mask_history": False}),
        ("GRU4Rec", {}),
        ("BPR", {}),
    ],
)
def test_a_run_is_evaluated_and_asked_by_its_own_rule_of_old_items(base, changes, tiny_path, tmp_path):
    """RecBole sets `repeatable` for sequential bases, which says nothing about what the user wants."""
    settings = QUICK | small_base(base) | {"data_path": str(tiny_path), "output_dir": str(tmp_path / "runs")}
    result = run_recfound("IAK", "tiny", config_dict=settings | {"domain": ["gender"]} | changes)
    loaded = load_recfound(result["run_dir"])
    table = {name: value for name, value in result["test_result"].items() if not name.startswith("weighted")}
    assert loaded.evaluate().metrics == pytest.approx(table, abs=1e-4)
    data = loaded.splits.dataset
    rows = data.inter_feat["user_id"] == data.token2id("user_id", "1")
    old = set(data.id2token("item_id", data.inter_feat["item_id"][rows]))
    asked = [{"user": "1"}] if base == "BPR" else [{"user": "1"}, {"history": sorted(old)}]
    for who in asked:
        named = {token for token, *_ in loaded.recommend(**who, k=10_000)}
        assert named & old == (old if "repeatable" in changes else set())


def test_a_finished_run_is_evaluated_again(finished, tmp_path):
    loaded = load_recfound(finished["run_dir"])
    assert loaded.evaluate().metrics == {
        key: value for key, value in finished["test_result"].items() if not key.startswith("weighted")
    }
    with pytest.raises(ConfigError, match="knows users and items of tiny by their ids"):
        loaded.evaluate("other")
    with pytest.raises(ConfigError, match="knows items by their ids"):
        loaded.add_items([{"item_id": "new"}])
    assert loaded.cold_items and len(loaded.cold_items) < len(loaded.item_ids)
    assert not {token for token, *_ in loaded.recommend(user="1", k=10_000)} & set(loaded.cold_items)
    with pytest.raises(ConfigError, match="reads no texts"):
        loaded.recommend(query="fish")


def test_kernels_of_another_base_are_refused(finished, tmp_path):
    import shutil

    from safetensors.torch import save_file

    folder = tmp_path / "copy"
    shutil.copytree(finished["run_dir"], folder)
    tensors = load_file(folder / "base" / "base.safetensors")
    name = next(name for name, tensor in tensors.items() if tensor.is_floating_point())
    tensors[name].view(-1)[0] += 1e-4
    save_file(tensors, folder / "base" / "base.safetensors")
    with pytest.raises(DataError, match=r"base/base.safetensors: its content has changed .*: restore it, or run again"):
        load_recfound(folder)
    write_digests(folder / "base")
    reseal(folder)
    with pytest.raises(ConfigError, match="the kernels belong to another base"):
        load_recfound(folder)
    with pytest.raises(ConfigError, match="is not a finished run"):
        load_recfound(tmp_path)


def test_a_run_on_the_kept_base_with_warm_kernels(finished, tiny_path, tmp_path):
    settings = QUICK | {
        "data_path": str(tiny_path),
        "output_dir": str(tmp_path),
        "domain": ["gender"],
        "base_checkpoint": finished["run_dir"],
    }
    settings |= {"iak_args": {"least_steps": 4, "warm_start": finished["run_dir"]}, "learning_rate": 1e-12}
    again = run_recfound("IAK", "tiny", config_dict=settings)
    assert again["comparison"][0]["metrics"] == finished["comparison"][0]["metrics"], "the same base on the same split"
    first = load_recfound(finished["run_dir"])
    second = load_recfound(again["run_dir"])
    for one, two in zip(first.model.banks[0].parameters(), second.model.banks[0].parameters(), strict=True):
        torch.testing.assert_close(one, two, atol=1e-6, rtol=0)


def test_a_base_is_found_beside_a_run_that_was_moved_with_it(finished, tiny_path, tmp_path):
    """A base of its own folder is named by a path that no longer exists then."""
    settings = QUICK | {"data_path": str(tiny_path), "output_dir": str(tmp_path / "runs"), "domain": ["gender"]}
    base = shutil.copytree(finished["run_dir"], tmp_path / "runs" / "first")
    run = Path(run_recfound("IAK", "tiny", config_dict=settings | {"base_checkpoint": str(base)})["run_dir"])
    expected = load_recfound(run).recommend(user="1", k=5)
    (tmp_path / "runs").rename(tmp_path / "moved")
    moved = tmp_path / "moved" / run.name
    assert load_recfound(moved).recommend(user="1", k=5) == expected
    (tmp_path / "moved" / "first").rename(tmp_path / "elsewhere")
    with pytest.raises(ConfigError, match="got no folder .*first/base, expected the base .* Move the base beside it"):
        load_recfound(moved)


def test_the_backbone_of_a_base_is_named_when_a_run_is_loaded(small_run, tiny_backbone, finished, tmp_path):
    backbone = shutil.copytree(tiny_backbone, tmp_path / "backbone")
    settings = small_run | {"only_tasks": ["U2I"], "max_steps": 1, "task_test_examples": 0, "backbone": str(backbone)}
    base = run_recfound("RecFound", "tiny", config_dict=settings)["run_dir"]
    own = {key: small_run[key] for key in ("data_path", "output_dir")} | QUICK
    run = run_recfound("IAK", "tiny", config_dict=own | {"domain": ["gender"], "base_checkpoint": base})["run_dir"]
    expected = load_recfound(run).recommend(["50"], k=5)
    backbone.rename(tmp_path / "renamed")
    with pytest.raises(BackboneError):
        load_recfound(run)
    assert load_recfound(run, backbone=str(tmp_path / "renamed")).recommend(["50"], k=5) == expected
    with pytest.raises(ConfigError, match="backbone: the base DeepFM has no language model: leave it out"):
        load_recfound(finished["run_dir"], backbone=str(tiny_backbone))


def test_another_base_at_the_same_path_is_another_run(finished, tiny_path, tmp_path):
    base = tmp_path / "base"
    shutil.copytree(Path(finished["run_dir"]) / "base", base)
    settings = QUICK | {"domain": ["gender"], "base_checkpoint": str(base), "data_path": str(tiny_path)}
    config = IAKSystem.configure(Request.of("IAK", "tiny", None, settings))
    before = resolved_settings(config)
    assert identity_of(resolved_settings(config)) == identity_of(before)
    weights = next(base.glob("*.safetensors"))
    weights.write_bytes(weights.read_bytes()[:-1] + b"?")
    assert identity_of(resolved_settings(config)) != identity_of(before)


def test_values_of_users_are_those_of_the_metric_of_the_kernels(tiny_path, tmp_path):
    settings = QUICK | small_base("BPR", epochs=1) | {"data_path": str(tiny_path), "output_dir": str(tmp_path)}
    settings |= {"domain": ["gender"], "valid_metric": "Recall@10", "tuning_baselines": ["frozen"]}
    result = run_recfound("IAK", "tiny", config_dict=settings)
    found = json.loads((Path(result["run_dir"]) / "by_user.json").read_text())
    assert found["metric"] == "Recall@10" and result["valid_score_bigger"]
    assert len(found["users"]) == len(set(found["users"])) > 10
    for row in result["comparison"]:
        values = found["rows"][row["model"]]
        assert len(values) == len(found["users"])
        assert sum(values) / len(values) == pytest.approx(row["metrics"]["recall@10"], abs=1e-3)
    assert result["best_valid_score"] == result["best_valid_result"]["recall@10"]


def test_clicks_without_times(write_dataset, tmp_path):
    """Which columns are needed is for the base to say: a click model is split at random."""
    rows = [[f"u{user}", f"i{(7 * user + k) % 30}", (user + k) % 3 // 2] for user in range(30) for k in range(12)]
    inter = [["user_id:token", "item_id:token", "label:float"], *rows]
    users = [["user_id:token", "gender:token"], *([f"u{user}", "MF"[user % 2]] for user in range(30))]
    settings = QUICK | {"data_path": str(write_dataset("clicks", inter=inter, user=users)), "domain": ["gender"]}
    settings |= {"output_dir": str(tmp_path / "runs"), "base_args": {"epochs": 1}}
    result = run_recfound("IAK", "clicks", config_dict=settings | {"base_model": "DeepFM"})
    assert [row["model"] for row in result["comparison"]] == ["frozen", "IAK"] and "auc" in result["test_result"]
    with pytest.raises(DataError, match=r"clicks.inter:1: no column 'timestamp' \(TIME_FIELD, for the split by time"):
        run_recfound("IAK", "clicks", config_dict=settings | {"base_model": "BPR"})


def test_a_base_is_chosen_by_the_metric_of_the_kernels_where_its_own_default_is_not_measured(tiny_path, tmp_path):
    settings = QUICK | small_base("BPR", epochs=1) | {"data_path": str(tiny_path), "output_dir": str(tmp_path)}
    settings |= {"domain": ["gender"], "metrics": ["Recall", "MRR"], "topk": [5], "tuning_baselines": ["frozen"]}
    result = run_recfound("IAK", "tiny", config_dict=settings | {"valid_metric": "Recall@5"})
    assert set(result["test_result"]) == {"recall@5", "mrr@5", "weighted recall@5"}
    assert result["best_valid_score"] == result["best_valid_result"]["recall@5"]
    with pytest.raises(ConfigError) as caught:
        run_recfound("IAK", "tiny", config_dict=settings)
    assert caught.value.problems == ["valid_metric: got NDCG@10, expected one of metrics: Recall, MRR"]
    with pytest.raises(ConfigError) as caught:
        run_recfound("IAK", "tiny", config_dict=settings | {"base_args": {"valid_metric": "MRR@7"}})
    assert caught.value.problems == ["base_args: valid_metric: got MRR@7, expected a length among topk: 5"]


@pytest.mark.parametrize(
    ("model", "domain"),
    [
        ("AutoInt", "timestamp:weekday"),
        ("BPR", "timestamp:hour"),
        ("GRU4Rec", ["gender", "age:25/40"]),
        ("SASRec", "occupation"),
    ],
)
def test_other_bases_and_domains(model, domain, tiny_path, tmp_path):
    settings = (
        QUICK
        | small_base(model, epochs=2)
        | {"data_path": str(tiny_path), "output_dir": str(tmp_path), "domain": domain, "tuning_baselines": ["head"]}
    )
    result = run_recfound("IAK", "tiny", config_dict=settings)
    frozen, head, ours = result["comparison"]
    assert set(frozen["metrics"]) == set(ours["metrics"]) == set(head["metrics"])
    loaded = load_recfound(result["run_dir"])
    names = [loaded.model.domains[0].names[0]] * 2
    assert len(loaded.recommend_batch(users=["1", "2"], k=3, domains=names)[1]) == 3
    if loaded.reads_histories:
        history = [loaded.tokens[item] for item in loaded._history_of(loaded._user_id("1"))]
        named = {domains.text: domains.names[0] for domains in loaded.model.domains}
        assert loaded.recommend(history, k=3, domains=named) == loaded.recommend(user="1", k=3, domains=named)
    if "timestamp" in domain:
        with pytest.raises(ConfigError, match="depends on a column"):
            loaded.recommend(user="1", k=3)


def test_sampling_and_prior_are_those_that_were_asked_for(tiny_path, tmp_path):
    settings = (
        QUICK
        | small_base("DeepFM", epochs=2)
        | {"data_path": str(tiny_path), "output_dir": str(tmp_path), "domain": ["occupation"]}
    )
    sizes, steps = {}, {}
    for sampling in ("dynamic", "fixed", "mixed"):
        result = run_recfound(
            "IAK",
            "tiny",
            config_dict=settings
            | {"kernel_args": {"prior": "learned"}, "iak_args": {"least_steps": 4, "sampling": sampling, "beta": 1.0}},
        )
        row = result["comparison"][-1]
        sizes[sampling], steps[sampling] = set(row["batch_sizes"]), sum(row["domain_steps"])
        bank = load_recfound(result["run_dir"]).model.banks[0].places[0]
        assert isinstance(bank.prior_mean, torch.nn.Parameter)
        assert bank.enabled.any() and bank.prior_mean[bank.enabled].any(dim=1).all(), (
            "every kept kernel has learnt its prior"
        )
        assert not bank.prior_mean[torch.tensor(row["domain_steps"]) == 0].any()
    assert sizes["fixed"] - {0} == {32} and len(sizes["dynamic"] - {0}) > 1, "0: without training rows"
    assert steps["mixed"] > 2 * max(steps["fixed"], steps["dynamic"]), "rows as they come have many domains in a batch"


def test_recfound_is_a_base(small_run, tmp_path):
    base = run_recfound("RecFound", "tiny", config_dict=small_run | {"max_steps": 2})
    settings = {key: small_run[key] for key in ("data_path", "output_dir", "show_progress", "use_gpu", "time_budget")}
    settings |= QUICK | {"domain": ["gender"], "base_checkpoint": base["run_dir"]}
    assert "user_tower" in list_layers(Request.of(config_dict={"base_checkpoint": base["run_dir"]}))
    result = run_recfound("IAK", "tiny", config_dict=settings | {"tuning_baselines": ["adapter"]})
    with pytest.raises(ConfigError, match="only frozen and adapter"):
        run_recfound("IAK", "tiny", config_dict=settings | {"tuning_baselines": ["full"]})
    frozen = result["comparison"][0]
    assert (frozen["converged"], frozen["note"]) == (False, "not converged"), "of two steps"
    assert frozen["metrics"]["ndcg@10"] == pytest.approx(base["test_result"]["ndcg@10"], abs=1e-3)
    assert not (Path(result["run_dir"]) / "base").exists(), "the base stays where it is"
    assert len(load_recfound(result["run_dir"]).recommend(user="1", k=5)) == 5
    kept = Path(base["run_dir"]) / "item_embeddings.safetensors"
    vectors = load_file(kept)["item_embeddings"]
    save_file({"item_embeddings": vectors + 0.01 * torch.randn_like(vectors)}, kept)
    with pytest.raises(DataError, match="item_embeddings.safetensors: its content has changed since it was written"):
        run_recfound("IAK", "tiny", config_dict=settings)


def test_flipped_preferences_are_learnt_and_permuted_domains_are_not(tmp_path):
    """Two domains like opposite items: the base cannot serve both, kernels can, and permuted domains cannot."""
    path = write_flipped(tmp_path / "data", seed=1, users=1500)
    settings = SETTINGS | {
        "data_path": str(path),
        "show_progress": False,
        "use_gpu": False,
        "time_budget": 0,
        "epochs": 15,
        "learning_rate": 0.005,
        "stopping_step": 5,
        "output_dir": str(tmp_path / "runs"),
        "base_args": {"epochs": 8, "mlp_hidden_size": [32, 32]},
    }
    frozen, ours = run_recfound("IAK", "flipped", config_dict=settings)["comparison"]
    for region in ("north", "south"):
        assert ours["domains"]["region"][region]["auc"] > frozen["domains"]["region"][region]["auc"] + 0.1
    control = run_recfound("IAK", "flipped", config_dict=settings | {"control": "permuted_domains"})["comparison"]
    assert control[1]["metrics"]["auc"] < control[0]["metrics"]["auc"] + 0.05


def test_rows_of_no_domain_are_counted(tiny_path, tmp_path, capsys):
    shutil.copytree(tiny_path / "tiny", tmp_path / "data" / "tiny")
    file = tmp_path / "data" / "tiny" / "tiny.user"
    header, *rows = [line.split("\t") for line in file.read_text().splitlines()]
    place = next(place for place, name in enumerate(header) if name.startswith("gender"))
    for row in rows[:10]:
        row[place] = ""
    file.write_text("\n".join("\t".join(row) for row in [header, *rows]) + "\n")
    settings = QUICK | small_base("DeepFM", epochs=1) | {"data_path": str(tmp_path / "data"), "domain": ["gender"]}
    found = run_recfound("IAK", "tiny", config_dict=settings | {"epochs": 1, "output_dir": str(tmp_path / "runs")})
    said = capsys.readouterr().out
    assert said.count("belong to no domain; the base alone scores them") == 1
    counts = [int(count) for count in re.search(r"domain gender: (.*) belong", said)[1].split() if count.isdigit()]
    inside = sum(part["rows"] for part in found["comparison"][-1]["domains"]["gender"].values())
    assert counts[-2] > 0 and counts[-1] == inside + counts[-2], said
    notes = [line for line in said.splitlines() if line.startswith(("note:", "domain "))]
    assert len(notes) == len(set(notes))
