"""M6-Rec's writer: equal to one pass over all layers, causal, and the same with and without kept keys."""

import pytest
import torch
from recbole.utils import init_seed
from torch.nn import functional as F
from transformers import GraniteConfig

from recbole_recfound.backbone import decode, head_of
from recbole_recfound.config.configurator import Config
from recbole_recfound.data.behaviour.segments import CANDIDATE, PAST
from recbole_recfound.data.split.protocol import build_splits
from recbole_recfound.errors import BackboneError
from recbole_recfound.model.m6rec import M6Rec
from recbole_recfound.model.trained import trained_parameters
from tests.reference.late_pass import _above, _below
from tests.tiny_backbone import write_tiny_backbone

SOURCES = [["User: age 24", "likes films"], ["a"], ["a long line", "b", "and another one"]]


@pytest.fixture(scope="module")
def model(tiny_path, tiny_backbone):
    """A writer with random adapters, prompts and segment vectors."""
    return writer(tiny_path, tiny_backbone)


def writer(data, backbone):
    """Build a writer with random weights in what is trained."""
    settings = {
        "data_path": str(data),
        "backbone": str(backbone),
        "use_gpu": False,
        "show_progress": False,
        "m6rec_task": ["generate"],
        "late_args": {"joint_layers": 2},
        "text_args": {"max_tokens": 12},
        "option_args": {"prompts": 4, "bottleneck": 8},
        "generate_args": {"max_tokens": 9},
    }
    config = Config("M6Rec", "tiny", None, settings)
    init_seed(1, True)
    model = M6Rec(config, build_splits(config).train_set)
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for weight in trained_parameters(model).values():
            weight.copy_(0.3 * torch.randn(weight.shape, generator=generator))
    return model.eval()


def reference_states(model, source, tokens):
    """Return the final states of what is written, [T, d], in one pass with a block mask."""
    tokenise = model.cache.tokenizer
    ids = [tokenise(text, add_special_tokens=False)["input_ids"][: model.cache.max_tokens] for text in source]
    hidden, segment_of = _below(model.decoder, model.reader.depth, [*ids, tokens])
    written = torch.tensor([segment == len(ids) for segment in segment_of])
    kinds = torch.where(written, CANDIDATE, PAST)
    prompts = model.reader.options.prompts()
    states = torch.cat([prompts, hidden[0] + model.reader.scale * model.kinds.weight[kinds]])
    part_of = [0] * len(prompts) + written.int().tolist()
    return _above(model.decoder, model.reader.depth, states[None], part_of, list(range(len(part_of))))[-len(tokens) :]


@torch.no_grad()
def states_of(model, sources, rows):
    """Return the final states of each row, of all sources together."""
    width = max(map(len, rows))
    ids = torch.tensor([row + [model.end] * (width - len(row)) for row in rows])
    mask = torch.tensor([[place < len(row) for place in range(width)] for row in rows])
    found = model.extend(model.read([model.source_of(source) for source in sources]), ids, mask)
    return [own[: len(row)] for own, row in zip(found, rows, strict=True)]


@torch.no_grad()
def test_equals_one_pass_whatever_the_batch(model):
    rows = [[9, 40, 41, 42], [50], [60, 61, 62, 63, 64, 65]]
    together = states_of(model, SOURCES, rows)
    for source, row, own in zip(SOURCES, rows, together, strict=True):
        torch.testing.assert_close(own, reference_states(model, source, row), atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(own, states_of(model, [source], [row])[0], atol=1e-5, rtol=1e-5)


def test_a_token_sees_no_later_one_and_the_whole_source(model):
    first = states_of(model, SOURCES[:1], [[9, 40, 41, 42]])[0]
    later = states_of(model, SOURCES[:1], [[9, 40, 70, 71]])[0]
    torch.testing.assert_close(first[:2], later[:2], atol=0, rtol=0)
    assert not torch.allclose(first[2], later[2], atol=1e-3)
    other = states_of(model, [[SOURCES[0][0], "hates films"]], [[9, 40, 41, 42]])[0]
    assert not torch.allclose(first[0], other[0], atol=1e-3)


@torch.no_grad()
def test_the_loss_is_that_of_the_target_and_its_end(model):
    """The cue is not learned; the target and the end of text are."""
    examples = sorted(model.examples(None), key=lambda example: len(example.answers))[:3]
    expected = []
    for example in examples:
        source = [model.texts.table.texts[segment] for segment in example.pack.source.segments]
        answers = example.answers.tolist()
        states = reference_states(model, source, [*example.cue, *answers[:-1]])[len(example.cue) - 1 :]
        logits = head_of(model.reader.adapted.get_base_model())(states)
        expected.append(F.cross_entropy(logits, torch.tensor(answers), reduction="none"))
    assert any(example.answers[-1] == model.end for example in examples)
    torch.testing.assert_close(model.token_losses(examples), torch.cat(expected), atol=1e-5, rtol=1e-5)


@torch.no_grad()
def slowly(model, task, source, most):
    """Return greedy tokens by a whole pass for each of them."""
    found = []
    while len(found) < most:
        states = reference_states(model, source, [*model.cues[task], *found])
        best = int(head_of(model.reader.adapted.get_base_model())(states[-1]).argmax())
        if best == model.end:
            break
        found.append(best)
    return found


def test_writing_equals_a_loop_without_kept_keys(model):
    sources = [model.source_of(source) for source in SOURCES]
    written = model.write_tokens("design", sources)
    assert written == [slowly(model, "design", source, 9) for source in SOURCES]
    assert written == [model.write_tokens("design", [source])[0] for source in sources]


def test_logits_are_those_of_the_language_model(tiny_path, tmp_path, monkeypatch):
    """Granite divides them; a family that changes them in an unknown way is refused."""
    folder = write_tiny_backbone(tmp_path, family=GraniteConfig, logits_scaling=8.0)
    model, ids = writer(tiny_path, folder), torch.arange(8)[None]
    with torch.no_grad():
        states = decode(model.decoder, model.decoder.embed_tokens(ids))
        torch.testing.assert_close(model.logits(states), model.lm.model(input_ids=ids).logits)
    monkeypatch.setattr("recbole_recfound.backbone.head.scaled_logits", lambda model, logits: logits)
    with pytest.raises(BackboneError, match="a granite model changes its logits"):
        writer(tiny_path, folder)


def test_writing_stops_at_the_end_of_text(model, monkeypatch):
    source = model.source_of(SOURCES[0])
    whole = model.write_tokens("query", [source])[0]
    monkeypatch.setattr(model, "end", whole[1])
    stop = whole.index(whole[1])
    assert model.write_tokens("query", [source])[0] == whole[:stop]


def test_items_of_a_title_are_in_one_part(model):
    parts = model.writings.parts
    titles = {part: {w.target for w in found if w.task == "design"} for part, found in parts.items()}
    assert all(titles.values())
    assert not titles["train"] & (titles["valid"] | titles["test"]) and not titles["valid"] & titles["test"]
    assert {w.source[0] for w in parts["test"] if w.task == "query"} == titles["test"]
