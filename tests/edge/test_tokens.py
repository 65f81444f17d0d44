"""Segments as tokens: as the teacher's tokenizer reads them, in a smaller vocabulary."""

from tokenizers import Tokenizer

from recbole_recfound.data.text.tokens import plain_tokens
from recbole_recfound.edge.tokens import FIRST, UNKNOWN, SegmentTokens, Vocabulary
from tests.tiny_backbone import tiny_tokenizer

TEXTS = ["Toy Story, release year: 1995", "a <|im_end|> in the data", "", "Amélie", "x" * 30]


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
