"""Sequences side by side in rows: places, mask, waste."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from recbole_recfound.backbone import load_backbone, packing
from recbole_recfound.backbone.packing import Packing, check_packing, same_sequence
from recbole_recfound.errors import BackboneError

SIZES = st.lists(st.integers(1, 120), min_size=1, max_size=60)


def _padded(sizes):
    padded = torch.zeros(len(sizes), max(sizes), dtype=torch.long)
    for row, size in enumerate(sizes):
        padded[row, :size] = torch.arange(1, size + 1) + 1000 * row
    return padded


@given(SIZES)
def test_every_sequence_lies_whole_in_one_row(sizes):
    packed = Packing.of(torch.tensor(sizes))
    width = packed.positions.shape[1]
    padded = _padded(sizes)
    flat = packed.pack(padded).flatten()
    real = padded > 0
    assert torch.equal(flat[packed.places(padded.shape[1])[real]], padded[real])
    assert int((flat > 0).sum()) == sum(sizes), "nothing lies on anything else"
    assert torch.equal(packed.positions.flatten()[packed.starts], torch.zeros(len(sizes), dtype=torch.long))
    for start, size in zip(packed.starts.tolist(), sizes, strict=True):
        assert start // width == (start + size - 1) // width
        assert packed.positions.flatten()[start : start + size].tolist() == list(range(size))


@given(SIZES)
def test_places_see_the_earlier_ones_of_their_sequence_alone(sizes):
    packed = Packing.of(torch.tensor(sizes))
    rows = packed.pack(_padded(sizes))
    seen = same_sequence(packed.positions)
    for row, places in zip(rows.tolist(), seen, strict=True):
        for place, value in enumerate(row):
            if value:
                assert [row[other] for other in places[place].nonzero()[:, 0].tolist()] == list(
                    range(value - (value % 1000) + 1, value + 1)
                )


@given(st.lists(st.integers(1, 60), min_size=80, max_size=200), st.integers(60, 100))
def test_rows_are_full(sizes, longest):
    packed = Packing.of(torch.tensor([*sizes, longest]))
    assert packed.positions.numel() <= 1.15 * (sum(sizes) + longest) + packed.positions.shape[1]


def test_one_short_sequence_takes_a_short_row():
    assert Packing.of(torch.tensor([6])).positions.tolist() == [list(range(8))]


def test_a_backbone_that_mixes_sequences_is_refused(tiny_backbone, monkeypatch):
    decoder = load_backbone(str(tiny_backbone), torch.get_default_device()).model.model
    ids = torch.arange(8)[None]
    check_packing(decoder, ids)
    decode = packing.decode
    monkeypatch.setattr(packing, "decode", lambda *given, **named: decode(*given))
    with pytest.raises(BackboneError, match="mixes the histories of a row"):
        check_packing(decoder, ids)
