"""Prompts: trusted templates around data that can do nothing but be read."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recbole_recfound.data.text import PromptTemplate, plain_tokens
from recbole_recfound.data.text.prompt import _longest
from recbole_recfound.errors import BackboneError, ConfigError
from tests.tiny_backbone import tiny_tokenizer

CHAT, PLAIN = tiny_tokenizer(), tiny_tokenizer(chat=False)


def _tokens(text):
    return tuple(plain_tokens([text], CHAT)[0])


def _text(template, data, longest=1000):
    tokens, is_data = template.render(data, longest)
    assert tokens.shape == is_data.shape and tokens.dtype == np.int64
    return CHAT.decode(tokens), CHAT.decode(tokens[is_data == 1])


def test_chat_template_where_there_is_one():
    text = "Item: {{ item }}."
    wrapped, data = _text(PromptTemplate("IP", text, ("item",), CHAT), {"item": _tokens("Alien")})
    assert wrapped == "<|im_start|>user\nItem: Alien.<|im_end|>\n<|im_start|>assistant\n"
    assert data == "Alien"
    assert _text(PromptTemplate("IP", text, ("item",), PLAIN), {"item": _tokens("Alien")})[0] == "Item: Alien."
    assert (
        _text(PromptTemplate("IP", text, ("item",), CHAT, chat=False), {"item": _tokens("Alien")})[0] == "Item: Alien."
    )


def test_the_chat_turn_is_made_of_special_tokens():
    tokens, _ = PromptTemplate("IP", "{{ item }}", ("item",), CHAT).render({"item": _tokens("x")}, 100)
    specials = [token for token in tokens.tolist() if token in CHAT.all_special_ids]
    assert CHAT.convert_ids_to_tokens(specials) == ["<|im_start|>", "<|im_end|>", "<|im_start|>"]


@pytest.mark.parametrize(
    ("chat_template", "message"),
    [
        (
            "{% for m in messages %}{% for part in m['content'] %}{{ part['text'] }}{% endfor %}{% endfor %}",
            "renders history 0 times, expected 2",
        ),
        ("{{ messages[0]['content'][:25] }}", "renders history 1 times, expected 2"),
        ("{{ messages[0]['content'] }}{{ messages[0]['content'] }}", "renders history 4 times, expected 2"),
        ("{{ messages[0]['content'] | upper }}", "renders history 0 times, expected 2"),
        ("{{ messages[0]['content'] }}{{ messages[0]['content'][:8] }}", "changes the text of the message"),
        ("{{ raise_exception('System role\nrequired') }}", "System role required"),
        ("{{ messages[1]['content'] }}", "list object has no element 1"),
        ("{% for", "unexpected 'end of template'"),
    ],
)
def test_chat_templates_that_lose_data_are_refused_in_one_line(chat_template, message):
    tokenizer = tiny_tokenizer()
    tokenizer.chat_template, tokenizer.name_or_path = chat_template, "folder/of/it"
    text, slots = "Seen: {{ history }} Next of {{ items }}? ({{ history }})", ["history", "items"]
    with pytest.raises(BackboneError, match=message) as refused:
        PromptTemplate("SR", text, slots, tokenizer)
    assert "\n" not in str(refused.value) and "chat template of backbone 'folder/of/it'" in str(refused.value)
    PromptTemplate("SR", text, slots, tokenizer, chat=False)


@settings(deadline=None)
@given(
    st.one_of(
        st.text(max_size=20),
        st.sampled_from(["{{ 7*7 }}", "{% raw %}", "<|im_end|>", "\ue000item\ue001", "{{ item }}"]),
    )
)
def test_data_is_read_literally(value):
    template = PromptTemplate("IP", "<{{ item }}>", ("item",), CHAT)
    tokens, is_data = template.render({"item": _tokens(value)}, 1000)
    assert tuple(tokens[is_data == 1]) == _tokens(value)
    assert not set(tokens[is_data == 1].tolist()) & set(CHAT.all_special_ids)
    assert is_data.sum() + template.fixed_length == len(tokens)


def test_history_is_cut_oldest_first_and_then_single_slots():
    template = PromptTemplate("SA", "H:{{ history }} I:{{ item }}", ("history", "item"), PLAIN)
    data = {
        "history": [_tokens(title) for title in ("oldest", "older", "newest")],
        "item": _tokens("a long item title"),
    }
    fixed = len("H: I:") + len("a long item title")
    assert _text(template, data, 200)[0] == "H:oldest\nolder\nnewest I:a long item title"
    assert _text(template, data, fixed + len("older\nnewest\n"))[0] == "H:older\nnewest I:a long item title"
    assert _text(template, data, fixed + len("older\nnewest\n") - 1)[0] == "H:newest I:a long item title"
    assert _text(template, data, fixed)[0] == "H: I:a long item title"
    assert _text(template, data, 10)[0] == "H: I:a lon"


@given(st.lists(st.text("ab", min_size=1, max_size=9), max_size=9), st.integers(20, 80))
def test_prompts_fit_when_only_a_history_is_long(titles, longest):
    template = PromptTemplate("U2I", "Seen:\n{{ history }}", ("history",), PLAIN)
    tokens, is_data = template.render({"history": [_tokens(title) for title in titles]}, longest)
    assert len(tokens) <= longest
    shown = PLAIN.decode(tokens[is_data == 1])
    assert "\n".join(titles).endswith(shown)


def test_a_slot_the_template_leaves_out_takes_no_room():
    template = PromptTemplate("SA", "{{ history }}", ("history", "item"), PLAIN)
    assert _text(template, {"history": [_tokens("abc")], "item": _tokens("x" * 50)}, 10)[0] == "abc"


@pytest.mark.parametrize(
    "text",
    [
        "{{ nothing }}",
        "{{ history",
        "{{ history.__class__.__mro__ }}",
        "{{ 1 / 0 }}",
        "{{ history | upper }}",
        "{{ history | reverse }}",
        "{% include 'x' %}",
        7,
        "",
        "no slot for data",
    ],
)
def test_templates_that_cannot_work_are_refused(text):
    with pytest.raises(ConfigError, match="prompt of task SR: .*"):
        PromptTemplate("SR", text, ("history", "candidates"), CHAT)


@given(st.lists(st.integers(0, 30), max_size=5), st.integers(0, 60))
def test_single_slots_are_cut_alike_and_only_when_they_must(lengths, room):
    most = _longest(lengths, room)
    assert sum(min(length, most) for length in lengths) <= room
    if sum(lengths) <= room:
        assert all(length <= most for length in lengths)
    else:
        assert sum(min(length, most + 1) for length in lengths) > room


@pytest.mark.parametrize(
    "text",
    [
        "{{ item }}{{ 'a' * 10**9 }}",
        "{{ item }}{% for a in range(99999) %}{% for b in range(99999) %}x{% endfor %}{% endfor %}",
        "{{ item }}" + "{{ (" * 1 + "(" * 3000 + "1" + ")" * 3000 + ") }}",
        "{{ item * 10**9 }}",
        "{{ item }}{{ 9**9**9**9 }}",
        "{{ item }}{% set a = item %}",
        "{{ item }}" + "x" * 200_000,
    ],
)
def test_no_expression_of_a_template_is_computed(text):
    """Each of these would need hours or all memory."""
    with pytest.raises(ConfigError, match="prompt of task T: "):
        PromptTemplate("T", text, ["item"], PLAIN)
