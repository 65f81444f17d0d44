"""The token table and padding."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recbole_recfound.data.padding import pad
from recbole_recfound.data.text import TokenTable, plain_tokens
from tests.tiny_backbone import SPECIAL, tiny_tokenizer

TOKENIZER = tiny_tokenizer()


@settings(deadline=None)
@given(st.lists(st.text(), max_size=6), st.integers(1, 12))
def test_table_holds_the_first_tokens_of_every_text(texts, longest):
    table = TokenTable.of(texts, TOKENIZER, longest)
    assert len(table) == len(texts) and table.flat.dtype == np.int32
    for row, text in enumerate(texts):
        # The tokenizer has one token per byte.
        assert table[row].tolist() == plain_tokens([text], TOKENIZER)[0][:longest]
        assert len(table[row]) == min(longest, len(text.encode()))
    assert table.lengths.tolist() == [len(table[row]) for row in range(len(table))]


@given(st.lists(st.sampled_from([*SPECIAL, "a", " ", "<|", "|>"]), min_size=1, max_size=8))
def test_data_never_becomes_a_special_token(pieces):
    (tokens,) = plain_tokens(["".join(pieces)], TOKENIZER)
    assert not set(tokens) & set(TOKENIZER.all_special_ids)
    assert TOKENIZER.decode(tokens) == "".join(pieces)


@given(st.lists(st.lists(st.integers(0, 9), max_size=5), min_size=1, max_size=5), st.integers(-1, 9), st.booleans())
def test_pad_keeps_rows_and_marks_them(rows, fill, left):
    ids, mask = pad(rows, fill, left)
    assert ids.shape == mask.shape == (len(rows), max(1, max(map(len, rows))))
    assert ids.dtype == mask.dtype == np.int64
    for row, line, real in zip(rows, ids, mask, strict=True):
        assert line[real == 1].tolist() == row
        assert (line[real == 0] == fill).all()
        edge = real[::-1] if left else real
        assert edge.tolist() == sorted(real, reverse=True)


@pytest.mark.parametrize("texts", [[], [""]])
def test_nothing_to_tokenise(texts):
    table = TokenTable.of(texts, TOKENIZER, 5)
    assert len(table) == len(texts) and table.flat.size == 0
