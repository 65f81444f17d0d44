"""Kernels on disk: those of another run are the start of kernels of the same kind at the same place alone."""

from pathlib import Path

import pytest
import torch

from recbole_recfound import run_recfound
from recbole_recfound.errors import ConfigError
from recbole_recfound.model.kernel.files import warm_start
from tests.small_iak import build_small_iak, run_settings, small_base


@pytest.fixture(scope="module")
def earlier(tiny_path, tmp_path_factory):
    """The folder of a run whose kernels replace the user's vector."""
    settings = run_settings(tiny_path, tmp_path_factory.mktemp("runs")) | small_base("SASRec", epochs=1)
    settings |= {
        "kernel_args": {"combine": "replace"},
    }
    return Path(run_recfound("IAK", "tiny", config_dict=settings)["run_dir"])


def _model(tiny_path, **kernel_args):
    return build_small_iak("SASRec", tiny_path, kernel_args=kernel_args, iak_args={"lambda_c": 0}).model


@pytest.mark.parametrize(
    ("kernel_args", "message"),
    [
        ({"combine": "residual"}, "combine: got residual, expected replace"),
        ({"combine": "replace", "stochastic": False}, "stochastic: got False, expected True"),
        ({"combine": "replace", "prior": "learned"}, "prior: got learned, expected standard"),
        (
            {"combine": "replace", "layer": "input:trm_encoder"},
            r"layer: got \['input:trm_encoder'\], expected \['method:gather_indexes'\]",
        ),
        ({"combine": "replace", "code_size": 7}, "another size or kind"),
    ],
    ids=str,
)
def test_kernels_of_another_kind_are_no_start(kernel_args, message, earlier, tiny_path):
    with pytest.raises(ConfigError, match=message) as refused:
        warm_start(_model(tiny_path, **kernel_args), earlier)
    assert "\n" not in str(refused.value)


def test_the_same_kernels_are_a_start_whether_their_place_is_named_or_not(earlier, tiny_path):
    place = _model(tiny_path).attachments[0].place
    starts = []
    for layer in (None, place, [place]):
        model = _model(tiny_path, combine="replace", layer=layer)
        before = model.banks[0].places[0].mean_weight.clone()
        warm_start(model, earlier)
        starts.append(model.banks[0].places[0].mean_weight)
        assert not torch.equal(before, starts[-1])
    assert torch.equal(starts[0], starts[1]) and torch.equal(starts[0], starts[2])
