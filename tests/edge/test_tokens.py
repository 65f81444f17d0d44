"""Segments as tokens: as the teacher's tokenizer reads them, in a smaller vocabulary."""

import pytest
from tokenizers import Tokenizer, models, normalizers

from recbole_recfound.data.text.tokens import plain_tokens
from recbole_recfound.edge.teacher import Teacher
from recbole_recfound.edge.tokens import FIRST, UNKNOWN, SegmentTokens, Vocabulary
from recbole_recfound.errors import ConfigError
from tests.tiny_backbone import tiny_tokenizer

TEXTS = ["Toy Story, release year: 1995", "a <|im_end|> in the data", "", "Amélie", "x" * 30]

SPACE = "\u2581"
"""What SentencePiece writes for a blank."""


def sentencepiece_like(*blanks: str, fallback: bool = False) -> Tokenizer:
    """Return a tokenizer as Llama 2 has it: a blank begins every text, and digits stay alone.

    Args:
        blanks: characters that are read as a blank.
        fallback: read unknown characters as bytes; else they are one unknown token.
    """
    letters = "abcdefghijklmnopqrstuvwxyz0123456789:"
    single = ["<unk>", *(f"<0x{byte:02X}>" for byte in range(256) if fallback), SPACE, *letters]
    merges = [(SPACE, letter) for letter in letters[:26]]
    vocabulary = {token: number for number, token in enumerate([*single, *map("".join, merges)])}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=merges, unk_token="<unk>", byte_fallback=fallback))
    replaced = [normalizers.Replace(blank, SPACE) for blank in blanks]
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend(SPACE), *replaced])
    return tokenizer


def test_tokens_are_those_of_the_teacher_each_after_a_newline():
    tokenizer = tiny_tokenizer()
    copied = Tokenizer.from_str(tokenizer.backend_tokenizer.to_str())
    copied.enable_truncation(4)
    reader = SegmentTokens(copied, 12)
    newline = plain_tokens(["\n"], tokenizer)[0]
    expected = [newline + ids[:12] for ids in plain_tokens(TEXTS, tokenizer)]
    assert [reader.joined([text]) for text in TEXTS] == expected
    assert reader.joined(TEXTS[:2]) == expected[0] + expected[1]


def test_the_vocabulary_has_the_tokens_of_its_texts_and_no_other():
    reader = SegmentTokens(Tokenizer.from_str(tiny_tokenizer().backend_tokenizer.to_str()), 40)
    vocabulary = Vocabulary.of(reader, ["abc", "bcd"])
    ids = vocabulary.ids(reader.joined(["abcd"]))
    assert len(vocabulary) == FIRST + 5 and len(set(ids)) == 5 and min(ids) == FIRST
    assert vocabulary.ids(reader.joined(["az"]))[2] == UNKNOWN
    assert Vocabulary(vocabulary.kept).ids(reader.joined(["dz"])) == vocabulary.ids(reader.joined(["dz"]))


@pytest.mark.parametrize("fallback", [True, False])
def test_a_line_break_begins_each_segment_and_is_nowhere_else(fallback):
    """SentencePiece reads a line break as a blank and a byte, or as an unknown token."""
    tokenizer = sentencepiece_like(" ", fallback=fallback)
    reader = SegmentTokens(tokenizer, 12)
    texts = ["heat 1995", "", "two\nlines é 71", "rating 7 1"]
    ids = reader.joined(texts)
    assert tokenizer.id_to_token(reader.newline) == ("<0x0A>" if fallback else "<unk>")
    assert ids.count(reader.newline) == len(texts)
    for text in texts:
        own = [token for token in tokenizer.encode(text).ids if token != reader.newline]
        assert reader.joined([text]) == [reader.newline, *own[:12]]


def test_a_tokenizer_without_a_line_break_is_no_teachers(loaded, monkeypatch):
    tokenizer = loaded.model.cache.tokenizer
    monkeypatch.setattr(tokenizer, "_tokenizer", sentencepiece_like(" ", "\n"))
    with pytest.raises(ConfigError, match=r"^teacher: its tokenizer has no token for a line break"):
        Teacher(loaded.model, loaded.splits)
