"""Words of texts in any script, for metrics and for the comparison of texts."""

import re
import unicodedata

WITHOUT_BLANKS = (
    "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
)
"""Scripts that write words without blanks: Thai, Lao, Burmese, Khmer, Japanese and Chinese."""
_CHARACTER = re.compile(f"([{WITHOUT_BLANKS}])")


def spaced(text: str) -> str:
    """Return a text with blanks around each character of scripts that write words without blanks.

    Args:
        text: of any script; one in ASCII stays as it is.

    Example:
        >>> spaced("red shoe"), spaced("黑色 shoe").split()
        ('red shoe', ['黑', '色', 'shoe'])
    """
    return text if text.isascii() else _CHARACTER.sub(r" \1 ", text)


class _Letters(dict[int, str]):
    """Replacement of each character that is no letter, mark or number by a blank, computed on first use."""

    def __missing__(self, code: int) -> str:
        self[code] = replacement = chr(code) if unicodedata.category(chr(code))[0] in "LMN" else " "
        return replacement


_LETTERS = _Letters()


class WordTokenizer:
    """Tokenizer of rouge-score: its own for ASCII, for other scripts words or, without blanks, single characters."""

    def tokenize(self, text: str) -> list[str]:
        """Return the lower-case words of a text, without punctuation.

        Args:
            text: as written.
        """
        return spaced(text.lower().translate(_LETTERS)).split()
