"""The normal form of questions: what is one question, what are two, and the invariants for any text."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recbole_recfound.data.records.normal import is_blank, normal_form

UNSEEN = "\u200b\u200c\u200d\u2060\ufeff\u00ad\u200e\u202e\ufe0f\u180e\u034f"
texts = st.text(max_size=30) | st.text(
    st.sampled_from("aA bß'’-–.,?!12½²\u0301\u3099か각红 #+\t\u200b$(٫"), max_size=12
)


@pytest.mark.parametrize(
    "spellings",
    [
        ["What is it?", "what  is it", " WHAT IS IT!! ", "What\u00a0is\tit ?", "What, is it…", "“What” is—it"],
        ["don't", "don’t", "Don`t", "dont", "don´t", "don\u200b't"],
        ["red-shoe", "red–shoe", "red — shoe", "red\u2011shoe", "red, shoe"],
        ["cooperate", "co\u00adoperate", "\ufeffCooperate", "co\u200doperate"],
        ["ＲＥＤ　ｓｈｏｅ", "red shoe"],
        ["ﬁne", "FINE"],
        ["Straße", "STRASSE"],
        ["Café", "cafe\u0301"],
        ["1–5", "1-5", "1−5"],
        ["½", "1/2", "1 / 2"],
        ["A/B", "a / b"],
        ["1½ cup", "1 1/2 cup"],
        ["红色鞋子，多少钱？", "红色 鞋子 多少钱"],
        ["size 10, 20", "size 10; 20"],
        ["❤️", "❤"],
        ["(-5)", "−5"],
        ["Node.js", "node js"],
        ["ΟΔΟΣ", "οδος", "οδοσ"],
    ],
    ids=lambda spellings: spellings[0],
)
def test_spellings_of_one_question(spellings):
    assert len({normal_form(text) for text in spellings}) == 1, {text: normal_form(text) for text in spellings}


@pytest.mark.parametrize(
    "questions",
    [
        ["?", "!", "...", "??", "-"],
        ["1.5", "15", "1,5", "1 5", "1-5", "1/5", "1:5"],
        ["C", "C++", "C#", "C+", "C*", "F#"],
        ["5", "-5", ".5", "5%", "$5", "€5"],
        ["10²", "102", "10 ² 2"],
        ["red shoe", "redshoe", "red shoes"],
        ["café", "cafe"],
        ["कि", "की", "क"],
        ["红", "鞋", "红鞋"],
        ["مرحبا", "שלום", "สวัสดี", "안녕", "привет"],
        ["😀", "😃", "🇩🇪", "🇫🇷"],
        ["a < b", "a > b", "a = b"],
    ],
    ids=lambda questions: questions[0],
)
def test_different_questions(questions):
    assert len({normal_form(text) for text in questions}) == len(questions), {q: normal_form(q) for q in questions}


@given(texts)
def test_normalising_twice_changes_nothing(text):
    form = normal_form(text)
    assert normal_form(form) == form


@given(texts, st.lists(st.tuples(st.integers(0, 30), st.sampled_from(UNSEEN)), max_size=5))
def test_invisible_characters_change_nothing(text, inserted):
    changed = text
    for index, character in inserted:
        changed = changed[:index] + character + changed[index:]
    assert normal_form(changed) == normal_form(text)


@given(texts)
def test_case_changes_nothing(text):
    assert normal_form(text.casefold()) == normal_form(text)


@given(st.text(st.characters(max_codepoint=0x24F, exclude_characters="ıŉ"), max_size=20))
def test_upper_and_lower_case_are_alike(text):
    assert normal_form(text.upper()) == normal_form(text.lower().upper()) == normal_form(text.upper().lower())


@given(st.lists(st.text("abcxyz", min_size=1), min_size=1, max_size=6), st.data())
def test_blanks_and_punctuation_between_words_change_nothing(words, data):
    separators = st.text(" \t\n.,;:!?()“”—…、", min_size=1, max_size=3)
    text = "".join(word + data.draw(separators) for word in words)
    assert normal_form(text) == " ".join(words)


@given(texts)
def test_only_a_text_without_visible_characters_is_empty(text):
    assert (normal_form(text) == "") == is_blank(text)


COUNTED = st.characters(
    categories=["Ll", "Lu", "Lo", "N", "Sc", "So"], exclude_characters="\u115f\u1160\u2800\u3164\uffa0"
)


@given(COUNTED)
def test_every_letter_digit_and_symbol_counts(character):
    assert normal_form(character) and normal_form(f"x {character} y") not in ("", "x y")


@given(st.from_regex(r"\A\d{1,3}[.,:'-]\d{1,3}\Z"))
def test_punctuation_inside_numbers_counts(text):
    digits = "".join(filter(str.isdigit, text))
    assert normal_form(text) not in (normal_form(digits), normal_form(text.replace(".", " ").replace(",", " ")) + "x")
    assert normal_form(text) != normal_form(digits)


@pytest.mark.parametrize("text", ["", " ", "\u200b", "\ufeff \u00ad", "\u2060\n", "\u3164"])
def test_texts_without_visible_characters_are_blank(text):
    assert is_blank(text) and normal_form(text) == ""
