"""Logits of given states are those of the model, whatever its family makes of the values of its head."""

import pytest
import torch
from transformers import CohereConfig, Gemma2Config, GraniteConfig, LlamaConfig

from recbole_recfound.backbone import decode, decoder_of, head_of, load_backbone, logits_of
from recbole_recfound.backbone.head import check_logits
from recbole_recfound.errors import BackboneError
from tests.tiny_backbone import write_tiny_backbone

FAMILIES = [
    (LlamaConfig, {}),
    (Gemma2Config, {"head_dim": 8, "final_logit_softcapping": 2.0}),
    (GraniteConfig, {"logits_scaling": 8.0}),
    (CohereConfig, {"logit_scale": 0.0625}),
]
IDS = torch.arange(8)[None]


@pytest.mark.parametrize(("family", "settings"), FAMILIES)
def test_logits_of_states_are_those_of_the_model(tmp_path, family, settings):
    model = load_backbone(str(write_tiny_backbone(tmp_path, family=family, **settings)), torch.device("cpu")).model
    with torch.no_grad():
        head_of(model).weight.mul_(50)  # a trained head is sharp
        decoder = decoder_of(model)
        found = logits_of(model, decode(decoder, decoder.embed_tokens(IDS)))
        own = model(input_ids=IDS).logits
    assert own.abs().max() > 1
    torch.testing.assert_close(found, own)
    check_logits(model, IDS)


def test_logits_that_are_changed_in_another_way_are_refused(tiny_backbone):
    model = load_backbone(str(tiny_backbone), torch.device("cpu")).model

    def doubled(model, given, output):
        output.logits = 2 * output.logits
        return output

    model.register_forward_hook(doubled)
    with pytest.raises(BackboneError, match="a llama model changes its logits .*: it cannot write texts") as refused:
        check_logits(model, IDS)
    assert "\n" not in str(refused.value)
