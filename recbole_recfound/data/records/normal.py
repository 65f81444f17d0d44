"""Normal form of a question: two spellings of the same question are one text.

The form ignores case, Unicode's compatibility variants (NFKC), invisible characters, the shape of dashes and quotes,
runs of blanks, and punctuation between words. It keeps what changes the meaning: letters and marks of every script,
digits, symbols (`c`, `c + +`, `c #`), punctuation inside numbers (`1.5`, `1,5`, `15`) and the sign or point before a
number (`-5`, `.5`).
"""

import re
import unicodedata
from functools import lru_cache

from recbole_recfound.data.text.words import WITHOUT_BLANKS, spaced

_INVISIBLE_RANGES = (
    (0x00AD, 0x00AD),  # soft hyphen
    (0x034F, 0x034F),
    (0x061C, 0x061C),
    (0x115F, 0x1160),  # fillers of Hangul
    (0x17B4, 0x17B5),
    (0x180B, 0x180F),
    (0x200B, 0x200F),  # zero-width characters and marks of direction
    (0x202A, 0x202E),
    (0x2060, 0x206F),
    (0x3164, 0x3164),
    (0xFE00, 0xFE0F),  # variation selectors
    (0xFEFF, 0xFEFF),  # byte order mark
    (0xFFA0, 0xFFA0),
    (0xFFF0, 0xFFFB),
    (0x1BCA0, 0x1BCA3),
    (0x1D173, 0x1D17A),
    (0xE0000, 0xE0FFF),  # tags and further variation selectors
)
"""Unicode's Default_Ignorable_Code_Point, and the marks of interlinear annotation."""
_INVISIBLE = frozenset(chr(code) for first, last in _INVISIBLE_RANGES for code in range(first, last + 1))
_BLANK_PATTERN = "\u2800"
"""The empty pattern of Braille: a symbol that looks like a blank."""

_DASHES = "֊־᠆‐‑‒–—―−⁻₋〜〰﹘﹣－⸺⸻"
_APOSTROPHES = "`´ʹʻʼʽˈˊˋ‘’‚‛′‵＇"
_QUOTES = "«»“”„‟″‶‹›〝〞〟＂"
_REPLACED = (
    dict.fromkeys(_INVISIBLE, "")
    | dict.fromkeys(_DASHES, "-")
    | dict.fromkeys(_APOSTROPHES, "'")
    | dict.fromkeys(_QUOTES, '"')
)
"""Before NFKC, which would turn an acute accent into a blank with a mark."""
_SMALL_NUMERALS = "²³¹¼-¾⁰⁴-⁹₀-₉⅐-⅟↉①-⒛⓪㉑-㉟㊱-㊿🄀-🄊"
"""Characters that NFKC turns into plain digits."""
_BESIDE_NUMERALS = re.compile(rf"(?<=\d)(?=[{_SMALL_NUMERALS}])|(?<=[{_SMALL_NUMERALS}])(?=\d)")
_HAS_NUMERALS = re.compile(f"[{_SMALL_NUMERALS}]")

_SEPARATORS = frozenset("!\"'(),-.:;?[]_{}")
"""Punctuation that separates words like a blank; the other punctuation of ASCII are symbols."""
_SYMBOLS = frozenset("#$%&*+/<=>@\\^|~")
_AS_ASCII = {"٫": ".", "٬": ",", "·": ".", "⁄": " / ", "∕": " / "}
_APOSTROPHE_IN_WORD = re.compile(r"'(?<=[^\W\d_]')(?=[^\W\d_])")
_BEFORE_DIGIT = re.compile(rf"[{re.escape(''.join(sorted(_SEPARATORS)))}]+(?=\d)")
_STAND_INS = {separator: chr(code) for code, separator in enumerate(sorted(_SEPARATORS), start=0xE)}
"""Characters in place of punctuation inside numbers: no text has them when control characters have become blanks."""
_HIDDEN = str.maketrans(_STAND_INS)
_SHOWN = {stand_in: separator for separator, stand_in in _STAND_INS.items()}

_BETWEEN_WORDS = re.compile(f" (?<=[{WITHOUT_BLANKS}] )(?=[{WITHOUT_BLANKS}])")
_MOST_PASSES = 4


class _Classes(dict[str, str]):
    """Replacement of each character by its class, computed on first use."""

    def __missing__(self, character: str) -> str:
        self[character] = replacement = _by_class(character)
        return replacement


def _by_class(character: str) -> str:
    category = unicodedata.category(character)
    if category[0] == "Z" or category == "Cc" or character == _BLANK_PATTERN:
        return " "
    if character in _AS_ASCII:
        return _AS_ASCII[character]
    if category[0] == "S" or character in _SYMBOLS:
        return f" {character} "
    if category[0] == "P" and character not in _SEPARATORS:
        return ","
    return character


_CLASSES = _Classes()


def normal_form(text: str) -> str:
    """Return the normal form of a question; it is empty only for a text without any visible character.

    A text of punctuation alone keeps it. Normalising twice changes nothing.

    Args:
        text: a prompt, instruction or query.

    Example:
        >>> normal_form("Is  it a RED\u200b shoe?"), normal_form("is it a “red” shoe")
        ('is it a red shoe', 'is it a red shoe')
        >>> normal_form("C++ 1.5"), normal_form("C# 15"), normal_form("?")
        ('c + + 1.5', 'c # 15', '?')
    """
    form = _pass(text)
    # Removed characters may have separated a letter from its mark, which NFKC then joins.
    for _ in range(_MOST_PASSES):
        if unicodedata.is_normalized("NFKC", form):
            break
        form = _pass(form)
    return form


def _pass(text: str) -> str:
    folded = form = _fold(text)
    for character in set(form):
        if (replacement := _CLASSES[character]) != character:
            form = form.replace(character, replacement)
    form = _BEFORE_DIGIT.sub(_number, _APOSTROPHE_IN_WORD.sub("", form))
    characters = set(form)
    for separator in characters & _SEPARATORS:
        form = form.replace(separator, " ")
    for stand_in in characters & _SHOWN.keys():
        form = form.replace(stand_in, _SHOWN[stand_in])
    form = " ".join(form.split())
    if not form:
        return "".join(folded.split()).replace(_BLANK_PATTERN, "")
    return form if form.isascii() else _BETWEEN_WORDS.sub("", form)


def _fold(text: str) -> str:
    """Fold case, Unicode variants, dashes and quotes, and remove invisible characters."""
    if text.isascii():
        return text.lower().replace("`", "'")
    for character in _REPLACED.keys() & set(text):
        text = text.replace(character, _REPLACED[character])
    if _HAS_NUMERALS.search(text):
        text = _BESIDE_NUMERALS.sub(" ", text)
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())


def _number(found: re.Match[str]) -> str:
    """Hide punctuation between two digits, and the sign or point at the beginning of a number."""
    run, start = found[0], found.start()
    before = found.string[start - 1] if start else " "
    if before.isdecimal():
        return run.translate(_HIDDEN)
    length = 2 if run.endswith("-.") else 1 if run[-1] in "-." else 0
    if length and (before + run)[-length - 1] in " (":
        return run[:-length] + run[-length:].translate(_HIDDEN)
    return run


def contains_words(text: str, part: str) -> bool:
    """Return whether the words of one text stand in another one after the other; `5` is no word of `1995` or `3.5`.

    In scripts without blanks each character is a word.

    Args:
        text: in normal form.
        part: in normal form.
    """
    return _between_blanks(part) in _between_blanks(text)


@lru_cache(maxsize=1 << 16)
def _between_blanks(form: str) -> str:
    return f" {' '.join(spaced(form).split())} "


def is_blank(text: str) -> bool:
    """Return whether a text has no visible character."""
    stripped = text.strip()
    if not stripped:
        return True
    return (stripped[0] in _INVISIBLE or _CLASSES[stripped[0]] == " ") and not normal_form(text)
