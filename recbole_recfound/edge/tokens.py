"""From segments of text to token ids of the student's pruned vocabulary, in training and on the device alike.

This module imports neither torch nor transformers.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from tokenizers import Tokenizer

PADDING, UNKNOWN, FIRST = range(3)
"""Ids of the student: padding, a token outside its vocabulary, and the first token of it."""
NEWLINE = "\n"
"""Stands before every segment: a text is one line for each."""


class SegmentTokens:
    """Token ids of segments by the tokenizer of the teacher's backbone.

    Args:
        tokenizer: changed in place: no token is added, cut or recognised inside data.
        max_tokens: length of a segment; a longer text loses its end.
    """

    def __init__(self, tokenizer: Tokenizer, max_tokens: int) -> None:
        tokenizer.no_truncation()
        tokenizer.no_padding()
        tokenizer.encode_special_tokens = True
        self.tokenizer, self.max_tokens = tokenizer, max_tokens
        self._newline = self._encode([NEWLINE])[0]
        self._known: dict[str, list[int]] = {}

    @property
    def newline(self) -> int:
        """The first token of every segment, in the backbone's vocabulary."""
        return self._newline[0]

    def add(self, texts: Iterable[str]) -> None:
        """Tokenise segments in one go; others are tokenised when they are first used.

        Args:
            texts: any number of segments.
        """
        missing = [text for text in dict.fromkeys(texts) if text not in self._known]
        for text, ids in zip(missing, self._encode(missing), strict=True):
            self._known[text] = self._newline + ids[: self.max_tokens]

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
