"""States of segments: each depends on its own text alone, and is computed once."""

import json
from contextlib import contextmanager

import pytest
import torch
from safetensors.torch import load_file, save_file

from recbole_recfound.backbone import decode, decoder_of, first_layers, load_backbone
from recbole_recfound.backbone.load import fingerprint
from recbole_recfound.backbone.segments import SegmentCache, SegmentFile
from recbole_recfound.errors import ConfigError, DataError
from tests.damage import DAMAGES, damage

TEXTS = ["a film", "another film", "Rating: 7", "Rating: 8", "user"]


@pytest.fixture
def backbone(tiny_backbone):
    return load_backbone(str(tiny_backbone), torch.device("cpu"))


def cache_of(backbone, depth=2, **options) -> SegmentCache:
    return SegmentCache(
        decoder_of(backbone.model), backbone.tokenizer, depth, fingerprint=backbone.fingerprint, **options
    )


def alone(backbone, text: str, depth: int = 2) -> torch.Tensor:
    decoder = decoder_of(backbone.model)
    ids = torch.tensor([backbone.tokenizer(text, add_special_tokens=False)["input_ids"]])
    return decode(first_layers(decoder, depth), decoder.embed_tokens(ids))[0]


def test_states_are_those_of_the_segment_alone(backbone):
    for text, found, last in zip(
        TEXTS, cache_of(backbone, states="all").get(TEXTS), cache_of(backbone).get(TEXTS), strict=True
    ):
        expected = alone(backbone, text)
        torch.testing.assert_close(found, expected, atol=1e-6, rtol=1e-5)
        torch.testing.assert_close(last, expected[-1:], atol=1e-6, rtol=1e-5)


def test_a_changed_segment_leaves_the_others_bit_equal(backbone):
    first = cache_of(backbone, states="all").get(TEXTS)
    changed = cache_of(backbone, states="all").get(["b film", *TEXTS[1:]])
    assert not torch.equal(first[0], changed[0])
    assert all(torch.equal(one, other) for one, other in zip(first[1:], changed[1:], strict=True))


def test_every_text_is_encoded_once(backbone):
    cache = cache_of(backbone)
    first = cache.get([*TEXTS, TEXTS[0]])
    assert (cache.misses, cache.hits, len(cache)) == (5, 1, 5)
    again = cache.get(TEXTS[::-1])
    assert (cache.misses, cache.hits) == (5, 6)
    assert all(torch.equal(one, other) for one, other in zip(first, again[::-1], strict=False))


def test_the_least_recently_used_go_first(backbone):
    width = decoder_of(backbone.model).config.hidden_size
    cache = cache_of(backbone, capacity=3 * 4 * width)
    cache.get(TEXTS[:3])
    cache.get(TEXTS[:1])
    cache.get(TEXTS[3:4])
    assert len(cache) == 3 and cache.bytes == cache.capacity
    misses = cache.misses
    cache.get([TEXTS[0], TEXTS[2], TEXTS[3]])
    assert cache.misses == misses
    cache.get([TEXTS[1]])
    assert cache.misses == misses + 1
    # More segments at once than there is room for are all returned.
    assert len(cache_of(backbone, capacity=1).get(TEXTS)) == len(TEXTS)


def test_digest_changes_with_everything_that_decides_a_state(backbone):
    digests = {
        cache_of(backbone).digest,
        cache_of(backbone, depth=1).digest,
        cache_of(backbone, states="all").digest,
        cache_of(backbone, max_tokens=9).digest,
        SegmentCache(decoder_of(backbone.model), backbone.tokenizer, 2, fingerprint="other").digest,
    }
    assert len(digests) == 5


def test_a_long_text_loses_its_end_and_an_empty_one_has_a_state(backbone):
    cache = cache_of(backbone, states="all", max_tokens=4)
    long, short, empty = cache.get(["Rating: 7", "Rati", ""])
    assert torch.equal(long, short) and len(empty) == 1


@pytest.mark.parametrize("depth", [0, 3])
def test_each_part_needs_a_layer(backbone, depth):
    with pytest.raises(ConfigError, match="joint"):
        cache_of(backbone, depth=depth)


def test_states_are_written_and_read(backbone, tmp_path):
    cache, file = cache_of(backbone, states="all"), tmp_path / "states.safetensors"
    expected = cache.get(TEXTS)
    cache.save(file)
    again = cache_of(backbone, states="all")
    again.load(file)
    assert all(torch.equal(one, other) for one, other in zip(again.get(TEXTS), expected, strict=True))
    assert again.misses == 0 and len(again) == len(TEXTS)
    assert again.bytes == 0, "what stays in the file takes no memory"
    again.load(file)
    assert len(again) == len(TEXTS)


def test_a_file_keeps_what_memory_does_not_hold(backbone, tmp_path):
    file = tmp_path / "states.safetensors"
    whole = cache_of(backbone, states="all")
    expected = whole.get(TEXTS)
    whole.save(file)
    small = cache_of(backbone, states="all", capacity=1)
    small.load(file)
    small.get([TEXTS[0], "a third film"])
    assert small.misses == 1 and small.bytes <= small.capacity
    small.save(file)
    again = cache_of(backbone, states="all")
    again.load(file)
    assert all(torch.equal(one, other) for one, other in zip(again.get(TEXTS), expected, strict=True))
    assert again.misses == 0
    with torch.no_grad():
        decoder_of(backbone.model).layers[0].mlp.up_proj.weight += 1
    again.get(TEXTS)
    assert again.misses == len(TEXTS), "a file knows nothing of other weights"


def test_a_segment_may_be_given_as_its_tokens(backbone, tmp_path):
    tokens = [tuple(backbone.tokenizer(text, add_special_tokens=False)["input_ids"]) for text in TEXTS]
    expected, file = cache_of(backbone, states="all").get(TEXTS), tmp_path / "states.safetensors"
    decoder, key = decoder_of(backbone.model), backbone.fingerprint
    cache = SegmentCache(decoder, None, 2, "all", fingerprint=key)
    found = cache.get(tokens)
    assert all(torch.equal(one, other) for one, other in zip(found, expected, strict=True))
    cache.save(file)
    again = SegmentCache(decoder, None, 2, "all", fingerprint=key)
    again.load(file)
    again.get(tokens)
    assert (again.hits, again.misses) == (len(TEXTS), 0)


def test_weights_that_decide_nothing_drop_no_state(backbone):
    """An adapter below that the states are computed without may learn; what `plain` says is done at every encoding."""
    decoder, calls = decoder_of(backbone.model), []

    @contextmanager
    def plain():
        calls.append(1)
        yield

    deciding = [decoder.layers[0].mlp.up_proj.weight]
    cache = SegmentCache(decoder, backbone.tokenizer, 2, weights=deciding, plain=plain)
    before = cache.get(TEXTS)
    with torch.no_grad():
        decoder.layers[1].mlp.up_proj.weight += 1
    assert cache.get(TEXTS)[0] is before[0] and calls
    with torch.no_grad():
        deciding[0] += 1
    assert cache.get(TEXTS)[0] is not before[0]


def test_a_changed_weight_drops_the_states_and_their_digest(backbone):
    cache = cache_of(backbone)
    before, digest = cache.get(TEXTS), cache.digest
    decoder = decoder_of(backbone.model)
    with torch.no_grad():
        decoder.layers[2].mlp.up_proj.weight += 1  # above: no state depends on it
    assert cache.get(TEXTS)[0] is before[0] and cache.digest == digest
    with torch.no_grad():
        decoder.layers[1].mlp.up_proj.weight += 1
    after = cache.get(TEXTS)
    assert cache.misses == 2 * len(TEXTS) and cache.digest != digest and len(cache) == len(TEXTS)
    torch.testing.assert_close(after[0], alone(backbone, TEXTS[0])[-1:], atol=1e-6, rtol=1e-5)
    assert not torch.allclose(after[0], before[0], atol=1e-3)


def test_states_of_another_backbone_are_refused(backbone, tiny_backbone, tmp_path):
    file = tmp_path / "states.safetensors"
    cache_of(backbone).save(file)
    other = load_backbone(str(tiny_backbone), torch.device("cpu"))
    with torch.no_grad():
        decoder_of(other.model).layers[0].mlp.up_proj.weight[0, 0] += 1
    changed = fingerprint(other.model, other.tokenizer)
    cache = SegmentCache(decoder_of(other.model), other.tokenizer, 2, fingerprint=changed)
    with pytest.raises(DataError, match="another backbone"):
        cache.load(file)


@pytest.mark.parametrize("how", DAMAGES)
def test_a_damaged_file_is_refused(backbone, tmp_path, how):
    cache, file = cache_of(backbone), tmp_path / "states.safetensors"
    cache.get(TEXTS)
    cache.save(file)
    damage(file, how)
    other = cache_of(backbone)
    with pytest.raises(DataError, match="states.safetensors is no file of segment states, or a damaged one") as caught:
        other.load(file)
    assert "\n" not in str(caught.value) and len(other) == 0


@pytest.mark.parametrize("name", ["states", "lengths", "texts", "sha256"])
def test_a_file_whose_content_was_exchanged_is_refused(backbone, tmp_path, name):
    """A whole file, in which states belong to other texts."""
    cache, file = cache_of(backbone, states="all"), tmp_path / "states.safetensors"
    cache.get(TEXTS)
    cache.save(file)
    tensors = load_file(file)
    changed = {"texts": torch.frombuffer(bytearray(json.dumps(TEXTS[::-1]).encode()), dtype=torch.uint8)}
    save_file({**tensors, name: changed.get(name, tensors[name].flip(0).contiguous())}, file)
    with pytest.raises(DataError, match="or a damaged one"):
        cache_of(backbone, states="all").load(file)


def test_caches_of_one_form_share_a_file(backbone, tmp_path, capsys):
    path = tmp_path / "states.safetensors"
    one, two, all_states = cache_of(backbone), cache_of(backbone), cache_of(backbone, states="all")
    file = SegmentFile(path, "last")
    for cache, texts in ((one, TEXTS[:3]), (two, TEXTS[2:]), (all_states, ["a third film"])):
        file.open(cache)
        cache.get(texts)
    file.save()
    again = cache_of(backbone)
    SegmentFile(path, "last").open(again)
    assert len(again) == len(TEXTS)
    again.get(TEXTS)
    assert again.misses == 0
    path.unlink()
    path.mkdir()
    file.save()
    file.save()
    (note,) = capsys.readouterr().out.splitlines()
    assert note.startswith(f"note: late_args: cache_file: {path} cannot be written; the run continues without it: ")
