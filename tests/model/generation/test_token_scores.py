"""Log-likelihoods of texts behind one prompt: equal to one pass for each text."""

import pytest
import torch

from recbole_recfound.backbone import load_backbone
from recbole_recfound.model.generation import token_scores
from recbole_recfound.model.generation.token_scores import token_log_likelihoods


@pytest.fixture(scope="module")
def model(tiny_backbone):
    return load_backbone(str(tiny_backbone), torch.device("cpu")).model.eval()


def alone(model, prompt, text):
    with torch.no_grad():
        logits = model(input_ids=torch.tensor([[*prompt, *text]])).logits[0].float().log_softmax(-1)
    return torch.stack([logits[len(prompt) - 1 + place, token] for place, token in enumerate(text)])


PROMPT = [5, 9, 3, 3, 7]
TEXTS = [[4], [8, 2, 6], [1, 1, 1, 1, 9, 4], [8, 2], [3]]


@pytest.mark.parametrize("size", [1, 4, 1024])
def test_equal_to_a_pass_for_each_text(model, size, monkeypatch):
    monkeypatch.setattr(token_scores, "PASS_TOKENS", size)
    found = token_log_likelihoods(model, PROMPT, TEXTS)
    for text, likely in zip(TEXTS, found, strict=True):
        torch.testing.assert_close(likely, alone(model, PROMPT, text), atol=1e-5, rtol=1e-5)


def test_a_text_depends_on_no_other(model):
    expected = token_log_likelihoods(model, PROMPT, TEXTS)
    found = token_log_likelihoods(model, PROMPT, [TEXTS[2], [7, 7, 7], TEXTS[1]])
    torch.testing.assert_close(found[0], expected[2], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(found[2], expected[1], atol=1e-5, rtol=1e-5)
