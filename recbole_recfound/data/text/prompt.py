"""Prompt templates: trusted text from YAML around slots for data.

A template is compiled once into token pieces. Data enters as tokens made by `plain_tokens`, so it is never part of the
template's text: it cannot open a jinja expression, end a chat turn or add a special token.
"""

import re
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from typing import cast

import numpy as np
from jinja2 import StrictUndefined, TemplateError, nodes
from jinja2.sandbox import SandboxedEnvironment
from transformers import PreTrainedTokenizerBase

from recbole_recfound.data.text.tokens import template_tokens
from recbole_recfound.errors import BackboneError, ConfigError, in_one_line

# Slots are rendered as private-use characters, which no tokenizer template or chat template uses.
_OPEN, _CLOSE = "\ue000", "\ue001"
_SLOT = re.compile(f"{_OPEN}(\\w+){_CLOSE}")
_ENVIRONMENT = SandboxedEnvironment(undefined=StrictUndefined, autoescape=False, keep_trailing_newline=True)

# One text is a tuple or an array of token ids; a list holds several texts.
Tokens = tuple[int, ...] | np.ndarray


class PromptTemplate:
    """A compiled prompt: pieces of fixed tokens and named slots.

    Args:
        name: the task, for errors.
        text: jinja2 text, `{{ slot }}` for each piece of data.
        slots: slot names the task fills.
        tokenizer: of the backbone.
        chat: wrap in the backbone's chat template where it has one, ending where the answer begins.
        separator: between the entries of a list slot (a history).
        uncut: slots that are never cut: the candidates of an answer, which would lose the correct one.

    Raises:
        ConfigError: the template does not parse, uses a slot the task does not fill, or changes a slot with a filter.
        BackboneError: the chat template cannot be applied, or changes or drops a slot.
    """

    def __init__(
        self,
        name: str,
        text: str,
        slots: Sequence[str],
        tokenizer: PreTrainedTokenizerBase,
        chat: bool = True,
        separator: str = "\n",
        uncut: Collection[str] = (),
    ) -> None:
        self.text, self.slots, self.chat, self.uncut = text, tuple(slots), chat, frozenset(uncut)
        _check_form(name, text, slots)
        try:
            filled = _ENVIRONMENT.from_string(text).render({slot: f"{_OPEN}{slot}{_CLOSE}" for slot in slots})
        except (TemplateError, TypeError, ValueError, ArithmeticError) as error:
            raise ConfigError(f"prompt of task {name}: {error} (slots: {', '.join(slots)})") from None
        if not _SLOT.search(filled):
            raise ConfigError(
                f"prompt of task {name}: no slot for data, such as {{{{ {slots[0]} }}}} (slots: {', '.join(slots)})"
            )
        rest = _SLOT.sub(lambda slot: "" if slot[1] in slots else _OPEN, filled)
        if _OPEN in rest or _CLOSE in rest:
            raise ConfigError(f"prompt of task {name}: expected slots without filters, as in {{{{ {slots[0]} }}}}")
        if chat and tokenizer.chat_template:
            filled = _in_chat(name, filled, tokenizer)
        # re.split with one group alternates fixed text and slot names.
        self.pieces = [
            part if index % 2 else template_tokens(part, tokenizer) for index, part in enumerate(_SLOT.split(filled))
        ]
        self.separator = template_tokens(separator, tokenizer)
        self.fixed_length = sum(len(piece) for piece in self.pieces if not isinstance(piece, str))

    def render(self, data: Mapping[str, Tokens | list[Tokens]], max_tokens: int) -> tuple[np.ndarray, np.ndarray]:
        """Fill the slots; a prompt beyond `max_tokens` is cut: lists lose their oldest entries, single slots their end.

        Args:
            data: slot -> token ids, or a list of token ids, oldest first.
            max_tokens: length limit of the whole prompt. Fixed text and uncut slots are never cut, whatever the limit.

        Returns:
            Token ids (int64) and a mask of the same length, 1 where a token is data rather than instruction.
        """
        filled = [piece for piece in self.pieces if isinstance(piece, str)]
        singles = [
            len(data[piece]) for piece in filled if piece not in self.uncut and not isinstance(data[piece], list)
        ]
        room = max_tokens - self.fixed_length - sum(len(data[piece]) for piece in filled if piece in self.uncut)
        longest = _longest(singles, room)
        room -= sum(min(length, longest) for length in singles)
        tokens: list[int] = []
        is_data: list[int] = []
        for piece in self.pieces:
            added = piece if not isinstance(piece, str) else self._filled(piece, data[piece], room, longest)
            tokens.extend(added)
            is_data.extend([int(isinstance(piece, str))] * len(added))
        return np.asarray(tokens, dtype=np.int64), np.asarray(is_data, dtype=np.int64)

    def _filled(self, slot: str, value: Tokens | list[Tokens], room: int, longest: int) -> Tokens | list[int]:
        if isinstance(value, list):
            return self._joined(value, room)
        return value if slot in self.uncut else value[:longest]

    def _joined(self, entries: list[Tokens], room: int) -> list[int]:
        """Return the newest entries that fit in `room` tokens, oldest first."""
        kept: list[Tokens] = []
        for entry in reversed(entries):
            room -= len(entry) + len(self.separator)
            if room < 0:
                break
            kept.append(entry)
        tokens: list[int] = []
        for index, entry in enumerate(reversed(kept)):
            tokens.extend(self.separator if index else [])
            tokens.extend(entry)
        return tokens


def _in_chat(name: str, filled: str, tokenizer: PreTrainedTokenizerBase) -> str:
    """Wrap a prompt in the backbone's chat template, up to where the answer begins.

    Args:
        name: the task.
        filled: the prompt, with marks in place of its slots.
        tokenizer: of the backbone.

    Raises:
        BackboneError: the chat template cannot be applied, or does not render each slot as often as the prompt has it.
    """
    subject = (
        f"the chat template of backbone '{tokenizer.name_or_path}' cannot be applied to the prompt of task {name} "
        "(correct it in the backbone's folder, or remove it: prompts are then plain text)"
    )
    message = [{"role": "user", "content": filled}]
    with in_one_line(subject, BackboneError):
        # A text, since it is not tokenised.
        wrapped = cast(str, tokenizer.apply_chat_template(message, tokenize=False, add_generation_prompt=True))
    expected, found = (Counter(_SLOT.findall(text)) for text in (filled, wrapped))
    for slot in expected:
        if found[slot] != expected[slot]:
            raise BackboneError(f"{subject}: it renders {slot} {found[slot]} times, expected {expected[slot]}")
    rest = _SLOT.sub("", wrapped)
    if found != expected or _OPEN in rest or _CLOSE in rest:
        raise BackboneError(f"{subject}: it changes the text of the message")
    return wrapped


def _check_form(name: str, text: str, slots: Sequence[str]) -> None:
    """Refuse everything but text and slots: an expression such as `{{ 'a' * 10**9 }}` would run when it is compiled.

    Args:
        name: the task.
        text: of the template.
        slots: slot names the task fills.

    Raises:
        ConfigError: the text does not parse, is too long, or holds other expressions.
    """
    form = f"prompt of task {name}: expected text and slots alone, as in {{{{ {slots[0]} }}}}"
    if not isinstance(text, str):
        raise ConfigError(f"prompt of task {name}: got {text!r}, expected text")
    if len(text) > LONGEST_TEXT:
        raise ConfigError(f"prompt of task {name}: {len(text):,} characters, at most {LONGEST_TEXT:,} are allowed")
    try:
        parsed = _ENVIRONMENT.parse(text)
        for node in parsed.find_all(nodes.Node):
            if isinstance(node, nodes.Filter):
                raise ConfigError(f"prompt of task {name}: expected slots without filters, as in {{{{ {slots[0]} }}}}")
            if not isinstance(node, (nodes.Output, nodes.TemplateData, nodes.Name)):
                raise ConfigError(f"{form}; line {node.lineno} has {type(node).__name__.lower()}")
    except TemplateError as error:
        raise ConfigError(f"prompt of task {name}: {error} (slots: {', '.join(slots)})") from None
    except RecursionError:
        raise ConfigError(f"{form}; it is nested too deeply") from None


LONGEST_TEXT = 100_000
"""Characters of a template."""


def _longest(lengths: Sequence[int], room: int) -> int:
    """Return the length to which texts must be cut to fit together; shorter texts stay whole."""
    for done, length in enumerate(sorted(lengths)):
        share = max(0, room) // (len(lengths) - done)
        if length > share:
            return share
        room -= length
    return max(lengths, default=0)
