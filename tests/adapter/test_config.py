import pytest

from recbole_recfound.adapter import TMoLEConfig
from tests.adapter.models import TABLE, tiny_model


def test_defaults_are_the_papers():
    config = TMoLEConfig(**TABLE)
    assert (config.num_experts, config.r, config.lora_alpha, config.lora_dropout) == (6, 16, 64, 0.1)
    assert (config.num_tasks, config.task_dim) == (14, 512)
    assert config.target_modules == {"q_proj", "k_proj", "v_proj", "o_proj"}
    assert config.task_kinds == ["embedding"] * 3 + ["generative"] * 10 + ["none"]


def test_round_trip(tmp_path):
    config = TMoLEConfig(r=3, experts_per_group=1, task_names=["a", "b"], task_kinds=["embedding", "generative"])
    config.save_pretrained(tmp_path)
    assert TMoLEConfig.from_pretrained(tmp_path).to_dict() == config.to_dict()


@pytest.mark.parametrize(
    "options",
    [
        {"experts_per_group": 0},
        {"experts_per_group": -1},
        {"experts_per_group": 65},
        {"experts_per_group": 1.5},
        {"experts_per_group": True},
        {"r": 0},
        {"r": 2.0},
        {"task_dim": 0},
        {"lora_alpha": 0},
        {"lora_dropout": 1.0},
        {"lora_dropout": -0.1},
        {"task_names": []},
        {"task_names": [], "task_kinds": []},
        {"task_names": ["a", "a"], "task_kinds": ["none", "none"]},
        {"task_names": ["a"]},
        {"task_names": ["a"], "task_kinds": ["sparse"]},
    ],
    ids=str,
)
def test_out_of_range(options):
    with pytest.raises(ValueError):
        TMoLEConfig(**(TABLE | options))


def test_initial_weights():
    model = tiny_model(init_weights=True, r=16, task_dim=512)
    layer = model.get_base_model().model.layers[0].self_attn.q_proj
    assert layer.tmole_lora_B["default"].count_nonzero() == 0
    A = layer.tmole_lora_A["default"]
    assert A.abs().max() <= 32**-0.5 and abs(A.std() * (3 * 32) ** 0.5 - 1) < 0.1
    router = layer.tmole_router["default"]
    assert abs(router.weight.std() - 1) < 0.05 and router.bias.count_nonzero() == 0
    table = model.base_model.tmole_task_table["default"].weight
    assert table.shape == (14, 512) and abs(table.std() - 0.0617) < 0.003
