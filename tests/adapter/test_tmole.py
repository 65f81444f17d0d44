"""Tasks of the rows of a batch, from every door of PEFT to the layers, and folding for one of them.

What PEFT promises of every method is tested in `test_contract.py`.
"""

import copy

import pytest
import torch
from peft import PeftModel, get_peft_model
from safetensors.torch import load_file

from recbole_recfound.adapter import TMoLEConfig, accept_tasks, build_adapter, routing
from tests.adapter.models import FAMILIES, SMALL, relative_error, tiny_backbone, tiny_model, tokens

TASKS = ["U2I", "SR", 2, "spare"]
families = pytest.mark.parametrize("family", FAMILIES)


def logits(model, tasks=TASKS, **inputs):
    with torch.no_grad():
        return model(input_ids=tokens(), tmole_tasks=tasks, **inputs).logits


@pytest.mark.parametrize("task_type", ["CAUSAL_LM", "FEATURE_EXTRACTION", None])
def test_tasks_reach_the_layers_through_every_peft_class(task_type):
    backbone = tiny_backbone()
    torch.manual_seed(1)
    model = get_peft_model(backbone, TMoLEConfig(task_type=task_type, **SMALL)).eval()
    assert torch.equal(logits(model), logits(tiny_model()))
    assert not torch.allclose(logits(model, tasks=["SR", "U2I", "spare", 2]), logits(model))
    assert not model.get_base_model()._forward_pre_hooks


def test_rows_do_not_depend_on_their_neighbours():
    model = tiny_model()
    together = logits(model)
    for row, task in enumerate(TASKS):
        alone = model(input_ids=tokens()[row : row + 1], tmole_tasks=[task]).logits
        torch.testing.assert_close(alone[0], together[row])


@families
def test_beam_search_keeps_each_row_on_its_task(family):
    model = tiny_model(family)
    options = {"num_beams": 3, "num_return_sequences": 2, "max_new_tokens": 5, "do_sample": False}
    prompt = {"input_ids": tokens(), "attention_mask": torch.ones_like(tokens())}
    together = model.generate(**prompt, tmole_tasks=TASKS, **options)
    assert together.shape[0] == 8
    for row, task in enumerate(TASKS):
        own = {name: value[row : row + 1] for name, value in prompt.items()}
        alone = model.generate(**own, tmole_tasks=[task], **options)
        width = alone.shape[1]
        assert torch.equal(together[2 * row : 2 * row + 2, :width], alone)
    with routing(model, TASKS):
        assert torch.equal(model.generate(**prompt, **options), together)


def test_beam_count_may_come_from_the_generation_config():
    model = tiny_model()
    prompt = {"input_ids": tokens(), "attention_mask": torch.ones_like(tokens())}
    asked = model.generate(**prompt, tmole_tasks=TASKS, num_beams=2, max_new_tokens=4, do_sample=False)
    model.generation_config.num_beams = 2
    assert torch.equal(model.generate(**prompt, tmole_tasks=TASKS, max_new_tokens=4, do_sample=False), asked)


@pytest.mark.parametrize("tasks", [TASKS, [TASKS[0]] * len(TASKS)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_generation_equals_one_forward_per_token(dtype, tasks):
    """The gates of a single task are folded into B for all tokens; those of several tasks are kept."""
    model = tiny_model().to(dtype)
    for _ in range(2):  # the second time with other weights: nothing may be left over from the first
        ids = tokens()
        found = model.generate(
            input_ids=ids, attention_mask=torch.ones_like(ids), tmole_tasks=tasks, max_new_tokens=4, do_sample=False
        )
        for step in range(ids.shape[1], found.shape[1]):
            with torch.no_grad():
                scores = model(input_ids=found[:, :step], tmole_tasks=tasks).logits[:, -1].float()
            chosen = scores.gather(1, found[:, step : step + 1])[:, 0]
            running = (found[:, ids.shape[1] : step] != 2).all(1)
            # In half precision two tokens may tie to rounding.
            assert (chosen[running] >= scores.amax(1)[running] - 0.02).all()
        torch.manual_seed(5)
        for name, parameter in model.named_parameters():
            if "tmole_" in name:
                parameter.data.normal_(std=0.3)


@pytest.mark.parametrize("tasks", [["U2I"], ["U2I"] * 2, ["U2I"] * 8])
def test_one_task_per_row(tasks):
    model = tiny_model()
    with pytest.raises(ValueError, match="4 rows"):
        logits(model, tasks=tasks)
    with pytest.raises(ValueError, match="4 rows"):
        model.generate(input_ids=tokens(), tmole_tasks=tasks, max_new_tokens=2)


def test_no_tasks_is_an_error_not_a_silent_backbone():
    model = tiny_model()
    with pytest.raises(RuntimeError, match="tmole_tasks"):
        model(input_ids=tokens())
    with pytest.raises(RuntimeError, match="tmole_tasks"):
        model.generate(input_ids=tokens(), max_new_tokens=2)


@pytest.mark.parametrize("task", ["nonsense", 14, -1, True])
def test_unknown_task(task):
    with pytest.raises(ValueError, match="unknown task"):
        logits(tiny_model(), tasks=[task] * 4)


def test_tensor_of_tasks_is_refused():
    with pytest.raises(TypeError, match="list"):
        logits(tiny_model(), tasks=torch.tensor([0, 1, 2, 3]))


def test_each_adapter_has_its_own_tasks():
    model = tiny_model()
    first = logits(model)
    torch.manual_seed(7)
    other = TMoLEConfig(
        task_type="CAUSAL_LM",
        **(SMALL | {"experts_per_group": 1, "task_names": ["only"], "task_kinds": ["generative"]}),
    )
    model.add_adapter("other", other)
    model.set_adapter("other")
    model.eval()
    assert not torch.allclose(logits(model, tasks="only"), first)
    with pytest.raises(ValueError, match="unknown task"):
        logits(model)
    model.set_adapter("default")
    assert torch.equal(logits(model), first)


@families
def test_merge_for_one_task_and_unmerge(family):
    model = tiny_model(family)
    expected, other = logits(model, tasks="SR"), logits(model, tasks="U2I")
    with model.base_model.routing("SR"):
        model.merge_adapter(safe_merge=True)
    assert relative_error(logits(model, tasks="SR"), expected) < 1e-5
    with pytest.raises(ValueError, match="merged for task SR"):
        logits(model, tasks="U2I")
    model.unmerge_adapter()
    assert relative_error(logits(model, tasks="U2I"), other) < 1e-5
    with model.base_model.routing("SR"):
        plain = model.merge_and_unload()
    assert relative_error(plain(input_ids=tokens()).logits, expected) < 1e-5


def test_merge_needs_one_task_and_finite_weights():
    model = tiny_model()
    with pytest.raises(RuntimeError, match="without tasks"):
        model.merge_adapter()
    with pytest.raises(ValueError, match="one task"), routing(model, TASKS):
        model.merge_adapter()
    layer = model.get_base_model().model.layers[0].self_attn.q_proj
    layer.tmole_lora_A["default"].data[:] = float("nan")
    with pytest.raises(ValueError, match="not finite"), routing(model, "SR"):
        model.merge_adapter(safe_merge=True)


def test_a_copy_reads_its_own_table_of_tasks(tmp_path):
    model = tiny_model()
    expected = logits(model)
    twin = copy.deepcopy(model)
    twin.base_model.tmole_task_table["default"].weight.data.normal_(generator=torch.Generator().manual_seed(0))
    assert torch.equal(logits(model), expected)
    assert not torch.allclose(logits(twin), expected)
    model.save_pretrained(tmp_path)
    saved = load_file(tmp_path / "adapter_model.safetensors")
    assert sum(name.endswith("tmole_task_table.weight") for name in saved) == 1, "one for all layers"


def test_other_targets():
    model = tiny_model(target_modules=["down_proj"], layers_to_transform=[1])
    adapted = [name for name, _ in model.named_parameters() if "tmole_lora_B" in name]
    assert adapted == ["base_model.model.model.layers.1.mlp.down_proj.tmole_lora_B.default"]
    with pytest.raises(TypeError, match="Linear only"):
        tiny_model(target_modules=["embed_tokens"])


def test_shared_lora_is_called_alike():
    torch.manual_seed(1)
    model = build_adapter(tiny_backbone(), "lora", init_lora_weights=False, r=4).eval()
    expected = model(input_ids=tokens()).logits
    assert torch.equal(logits(model), expected)
    with routing(model, TASKS):
        assert torch.equal(model(input_ids=tokens()).logits, expected)
    generated = model.generate(input_ids=tokens(), tmole_tasks=TASKS, max_new_tokens=2, num_beams=2)
    assert generated.shape[0] == 4
    with pytest.raises(ValueError, match="unknown adapter"):
        build_adapter(tiny_backbone(), "prefix")


def test_reloaded_lora_accepts_tasks(tmp_path):
    model = build_adapter(tiny_backbone(), "lora", init_lora_weights=False, r=4).eval()
    model.save_pretrained(tmp_path)
    reloaded = PeftModel.from_pretrained(tiny_backbone(), tmp_path)
    accept_tasks(reloaded)
    assert torch.equal(logits(reloaded), logits(model))


def test_adapters_are_not_mixed_in_a_batch():
    with pytest.raises(ValueError, match="tmole_tasks"):
        tiny_model()(input_ids=tokens(), adapter_names=["default"] * 4)
