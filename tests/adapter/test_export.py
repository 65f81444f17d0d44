import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model, set_peft_model_state_dict

from recbole_recfound.adapter import build_adapter, export_lora, save_lora
from tests.adapter.models import FAMILIES, relative_error, tiny_backbone, tiny_model, tokens


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize(("task", "rank"), [("U2I", 16), ("AG", 16), ("spare", 8), (4, 16)])
def test_stock_lora_gives_the_same_outputs(family, task, rank):
    model = tiny_model(family)
    expected = model(input_ids=tokens(), tmole_tasks=task).logits
    config, state = export_lora(model, task)
    assert type(config) is LoraConfig and config.r == config.lora_alpha == rank
    lora = get_peft_model(tiny_backbone(family), config).eval()
    loaded = set_peft_model_state_dict(lora, state)
    assert not loaded.unexpected_keys and not [key for key in loaded.missing_keys if "lora" in key]
    assert relative_error(lora(input_ids=tokens()).logits, expected) < 1e-5


def test_saved_folder_needs_peft_alone(tmp_path):
    model = tiny_model(layers_to_transform=[1])
    save_lora(*export_lora(model, "SR"), tmp_path)
    lora = PeftModel.from_pretrained(tiny_backbone(), tmp_path)
    expected = model(input_ids=tokens(), tmole_tasks="SR").logits
    assert relative_error(lora(input_ids=tokens()).logits, expected) < 1e-5


def test_modules_that_are_trained_as_a_whole_are_exported(tmp_path):
    model = tiny_model(modules_to_save=["norm"])
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "modules_to_save" in name:
                weight.mul_(3.0)
    expected = model(input_ids=tokens(), tmole_tasks="SR").logits
    save_lora(*export_lora(model, "SR"), tmp_path)
    lora = PeftModel.from_pretrained(tiny_backbone(), tmp_path).eval()
    assert relative_error(lora(input_ids=tokens()).logits, expected) < 1e-5
    assert relative_error(lora.merge_and_unload()(input_ids=tokens()).logits, expected) < 1e-5


def test_underflowed_gate_keeps_the_rank():
    model = tiny_model()
    router = model.get_base_model().model.layers[0].self_attn.q_proj.tmole_router["default"]
    with torch.no_grad():
        router.bias[0] = -1e4
    config, state = export_lora(model, "U2I")
    assert {len(value) for name, value in state.items() if "lora_A" in name} == {config.r} == {16}
    assert all(torch.isfinite(value).all() for value in state.values())


def test_refusals():
    with pytest.raises(ValueError, match="no TMoLE adapter"):
        export_lora(build_adapter(tiny_backbone(), "lora"), "SR")
    with pytest.raises(ValueError, match="unknown task"):
        export_lora(tiny_model(), "nonsense")
