"""The same runs on a GPU: skipped where there is none."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from recbole_recfound.adapter import build_adapter
from recbole_recfound.adapter.tmole import TMoLELayer
from recbole_recfound.model.kernel import IAKKernelBank
from recbole_recfound.quick_start import load_recfound, run_recfound
from tests.adapter.models import SMALL, relative_error, tiny_backbone, tokens
from tests.interrupted import interrupted_after
from tests.reference.expert_loop import looped, set_tasks, wide_gradients
from tests.settings import clicks_of
from tests.small_iak import OPTIONS, small_base

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
GPU = torch.device("cuda", 0)


def results_of(run):
    return json.loads((Path(run["run_dir"]) / "results.json").read_text())


@pytest.mark.parametrize("tasks", [[0, 3, 13, 7], [4] * 4], ids=str)
def test_tmole_equals_the_loop_over_experts(tasks):
    model = build_adapter(tiny_backbone().to(GPU), **SMALL, lora_dropout=0.0).train()
    loop = looped(model)
    set_tasks(loop, tasks)
    ids = tokens().to(GPU)
    outputs = model(input_ids=ids, tmole_tasks=tasks).logits, loop(input_ids=ids).logits
    assert relative_error(*outputs) < 1e-4
    for output in outputs:
        output.square().sum().backward()
    for name, module in model.get_base_model().named_modules():
        if isinstance(module, TMoLELayer):
            assert relative_error(module.tmole_lora_A["default"].grad, wide_gradients(loop, name)["A"]) < 1e-3


@pytest.mark.parametrize("gathered", [0, 1 << 24])
def test_bank_equals_itself_on_the_host(monkeypatch, gathered):
    monkeypatch.setattr("recbole_recfound.model.kernel.bank.GATHERED", gathered)
    torch.manual_seed(0)
    bank = IAKKernelBank(5, 12, 6, 4).eval()
    for weight in bank.parameters():
        weight.data.normal_(std=0.3)
    h, domain = torch.randn(40, 12), torch.randint(-1, 5, (40,))
    expected = bank(h, domain)
    torch.testing.assert_close(bank.to(GPU)(h.to(GPU), domain.to(GPU)).cpu(), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    "mode",
    [
        {},
        {"history": "item"},
        {"history": "prompt"},
        {"history": "late"},
        {"batch_args": {"cache_chunk": 1}, "gradient_checkpointing": True},
        {"scheduler": "coba", "adapter": "lora"},
        {"test_args": {"rank_titles": 3}, "task_args": {"SR": {"form": "title"}}},
        {"history": "item", "control": "small_reader"},
    ],
    ids=str,
)
def test_recfound_trains_merges_and_tests(small_run, mode):
    settings = small_run | {"use_gpu": True, "precision": "auto", "task_test_examples": 3} | mode
    run = run_recfound("RecFound", "tiny", config_dict=settings, baselines=["Pop", "BPR"])
    found = results_of(run)["run"]
    assert found["device"] == "cuda:0" and found["precision"] == "bf16"
    assert 0 < found["peak_gpu_memory_gib"] < 1
    assert found["history_mode"] == mode.get("history", "positions")
    outcome = results_of(run)["merge"]
    assert set(outcome["test"]) == {"best", "last", "merged"} and run["test_result"] == outcome["test"][outcome["kept"]]
    assert set(run["comparison"][-1]["task_metrics"]) == {"U2I", "I2I", "Q2I", "SR", "SA", "IP", "AVE"}
    states = (Path(run["run_dir"]) / f"trainer_state/step-{step:07d}/trained.safetensors" for step in (0, 4))
    before, after = map(load_file, states)
    moved = {name.partition(".")[0] for name in before if not before[name].equal(after[name])}
    assert moved == {name.partition(".")[0] for name in before} >= {"backbone"}


def test_a_run_goes_on_where_it_was_stopped(small_run):
    settings = small_run | {"use_gpu": True, "max_steps": 6, "eval_interval": 2, "resume": "auto"}
    with interrupted_after(4):
        run_recfound("RecFound", "tiny", config_dict=settings)
    runs = [run_recfound("RecFound", "tiny", config_dict=settings)["run_dir"] for _ in range(2)]
    continued, straight = (json.loads((Path(run) / "trainer_state" / "history.json").read_text()) for run in runs)
    assert [record["step"] for record in continued] == [record["step"] for record in straight] == list(range(1, 7))
    for mine, other in zip(continued, straight, strict=True):
        assert mine["losses"] == pytest.approx(other["losses"], rel=1e-2)


@pytest.mark.parametrize("base", sorted(OPTIONS))
def test_iak_adapts_and_serves(small_run, base):
    settings = {key: small_run[key] for key in ("data_path", "output_dir", "show_progress", "time_budget")}
    settings |= {
        "domain": ["gender"],
        "use_gpu": True,
        "epochs": 2,
        "iak_args": {"least_steps": 4},
        "train_batch_size": 32,
        "tuning_baselines": ["frozen", "full", "lora"],
    } | small_base(base, epochs=1)
    run = run_recfound("IAK", "tiny", config_dict=settings)
    assert [row["model"] for row in run["comparison"]] == ["frozen", "full", "lora", "IAK"]
    loaded = load_recfound(run["run_dir"])
    data = loaded.splits.train_set
    users, items = ([str(token) for token in data.field2id_token[field][1:5]] for field in ("user_id", "item_id"))
    assert torch.isfinite(loaded.score(users, items)).all()


@pytest.mark.parametrize("precision", ["float32", "auto"])
@pytest.mark.parametrize("gpu", [True, False])
def test_a_recfound_run_of_the_gpu_is_a_base_anywhere(small_run, gpu, precision):
    """What was trained here scores the same on the host."""
    base = run_recfound(
        "RecFound", "tiny", config_dict=small_run | {"use_gpu": True, "max_steps": 2, "precision": precision}
    )
    settings = {key: small_run[key] for key in ("data_path", "output_dir", "show_progress", "time_budget")} | {
        "use_gpu": gpu
    }
    settings |= {
        "domain": ["gender"],
        "base_checkpoint": base["run_dir"],
        "epochs": 1,
        "iak_args": {"least_steps": 2},
        "train_batch_size": 32,
        "tuning_baselines": ["adapter"],
    }
    run = run_recfound("IAK", "tiny", config_dict=settings)
    assert run["comparison"][0]["metrics"]["ndcg@10"] == pytest.approx(
        base["test_result"]["ndcg@10"], abs=1e-3 if precision == "float32" else 0.05
    )
    assert len(load_recfound(run["run_dir"]).recommend(user="1", k=5)) == 5


@pytest.mark.parametrize("precision", ["float32", "auto"])
def test_m6rec_has_the_numbers_of_the_host_in_every_task(tiny_path, tiny_backbone, tmp_path, precision):
    settings = clicks_of(tiny_path, tiny_backbone) | {
        "precision": precision,
        "epochs": 1,
        "m6rec_task": ["ctr", "retrieval", "zeroshot", "generate"],
        "retrieval_args": {"width": 8, "start_epochs": 2},
        "generate_args": {"max_tokens": 8},
        "test_users": 20,
    }
    gpu, host = (
        run_recfound("M6Rec", "tiny", config_dict=settings | {"use_gpu": gpu, "output_dir": str(tmp_path / str(gpu))})
        for gpu in (True, False)
    )
    assert results_of(gpu)["run"]["device"] == "cuda:0"
    rows = [{row["model"]: row["metrics"] for row in run["comparison"]} for run in (gpu, host)]
    assert list(rows[0])[:2] == ["M6Rec ctr", "M6Rec retrieval"] and list(rows[0])[-1] == "M6Rec generate"
    near = 0.02 if precision == "float32" else 0.1
    for name in ("M6Rec ctr", "M6Rec retrieval"):
        assert rows[0][name] == pytest.approx(rows[1][name], abs=near, rel=near), name
    served = [load_recfound(run["run_dir"]) for run in (gpu, host)]
    user = served[0].known_users()[0]
    found = [{item: score for item, _, score in run.recommend(user=user, k=30)} for run in served]
    shared = found[0].keys() & found[1].keys()
    assert len(shared) > 20 and all(found[0][item] == pytest.approx(found[1][item], abs=10 * near) for item in shared)
