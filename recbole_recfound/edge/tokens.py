"""From segments of text to token ids of the student's pruned vocabulary, in training and on the device alike.

This module imports neither torch nor transformers.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from tokenizers import Tokenizer

from recbole_recfound.errors import ConfigError

PADDING, UNKNOWN, FIRST = range(3)
"""Ids of the student: padding, a token outside its vocabulary, and the first token of it."""
NEWLINE, BLANK = "\n", " "
"""A line break stands before every segment: a text is one line for each."""


class SegmentTokens:
    """Token ids of segments by the tokenizer of the teacher's backbone.

    Args:
        tokenizer: changed in place: no token is added, cut or recognised inside data.
        max_tokens: length of a segment; a longer text loses its end.

    Attributes:
        newline: token of a line break, which begins every segment and is nowhere else, in the backbone's vocabulary.

    Raises:
        ConfigError: a tokenizer without a token for a line break.
    """

    def __init__(self, tokenizer: Tokenizer, max_tokens: int) -> None:
        tokenizer.no_truncation()
        tokenizer.no_padding()
        tokenizer.encode_special_tokens = True
        self.tokenizer, self.max_tokens = tokenizer, max_tokens
        newline, blank = self._encode([NEWLINE, BLANK])
        if not newline or newline == blank:
            raise ConfigError(
                "teacher: its tokenizer has no token for a line break, with which a student's segments begin: "
                "train the teacher with another backbone"
            )
        self.newline = newline[-1]  # SentencePiece puts the token of a word's start before it
        self._known: dict[str, list[int]] = {}

    def add(self, texts: Iterable[str]) -> None:
        """Tokenise segments in one go; others are tokenised when they are first used.

        Args:
            texts: any number of segments.
        """
        missing = [text for text in dict.fromkeys(texts) if text not in self._known]
        for text, ids in zip(missing, self._encode(missing), strict=True):
            # One more line break (an unknown character can be its token too) would begin another segment.
            own = [token for token in ids if token != self.newline]
            self._known[text] = [self.newline, *own[: self.max_tokens]]

    def joined(self, texts: Sequence[str]) -> list[int]:
        """Return the token ids of segments in the backbone's vocabulary, each after a newline.

        Args:
            texts: segments of a source or of a target.
        """
        self.add(texts)
        return [token for text in texts for token in self._known[text]]

    def _encode(self, texts: list[str]) -> list[list[int]]:
        return [encoding.ids for encoding in self.tokenizer.encode_batch(texts, add_special_tokens=False)]


class Vocabulary:
    """Tokens that the student knows.

    Args:
        kept: their ids in the backbone's vocabulary, in the order of the student's ids.
    """

    def __init__(self, kept: Sequence[int]) -> None:
        self.kept = list(kept)
        self._ids = {token: number for number, token in enumerate(self.kept, start=FIRST)}

    @classmethod
    def of(cls, tokens: SegmentTokens, texts: Iterable[str]) -> Vocabulary:
        """Return the vocabulary of all tokens of texts.

        Args:
            tokens: tokenises.
            texts: segments.
        """
        listed = list(texts)
        tokens.add(listed)
        return cls(sorted({token for text in listed for token in tokens.joined([text])}))

    def __len__(self) -> int:
        return FIRST + len(self.kept)

    def ids(self, tokens: Iterable[int]) -> list[int]:
        """Return the student's ids of tokens of the backbone.

        Args:
            tokens: ids in the backbone's vocabulary.
        """
        return [self._ids.get(token, UNKNOWN) for token in tokens]
