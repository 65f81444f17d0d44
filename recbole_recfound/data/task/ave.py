"""AVE: attribute value extraction."""

import itertools
import json
from collections.abc import Collection

from recbole_recfound.data.records.normal import contains_words, normal_form
from recbole_recfound.data.task.answers import Attribute, parse_attributes
from recbole_recfound.data.task.base import register_task
from recbole_recfound.data.task.examples import GenerativeExample
from recbole_recfound.data.task.facts import details, first_words, has_title
from recbole_recfound.data.task.kept import ItemTask
from recbole_recfound.data.task.metrics import AttributeF1
from recbole_recfound.data.text.fields import readable


@register_task("AVE")
class AttributeExtraction(ItemTask):
    """Extract attribute values from an item's text: a JSON list of attribute, value and the source that contains it.

    If a value occurs, as whole words, in the title or a description, that is its source. Otherwise the short fields are
    listed without their names (source `details`) and the model has to say which value belongs to which attribute.
    """

    id = 7
    title = "attribute value extraction"
    record = "Attribute_Value_Extraction"
    prompt = (
        "Extract the attributes of this item as a JSON list of objects with attribute, value and source.\n{{ text }}"
    )
    slots = ("text",)
    metrics = (AttributeF1,)
    needs = "no item has a title and further fields"
    long_words = 60

    def suits(self, row: int) -> bool:
        """Return whether the item has a title and further short fields."""
        return has_title(self.source, row) and bool(details(self.source, row))

    def of_row(self, row: int) -> GenerativeExample:
        """Return the item's text with its attributes."""
        catalogue, values = self.source.catalogue, details(self.source, row)
        texts = {"title": catalogue.title_of(row)}
        for name, value in catalogue.long_values[row].items():
            texts[_unused(readable(name), texts)] = first_words(value, self.long_words)
        source_of = {name: _source_of(value, texts) for name, value in values.items()}
        unnamed = [value for name, value in values.items() if source_of[name] is None]
        listed = _unused("details", texts)
        if unnamed:
            texts[listed] = " ".join(unnamed)
        answer = [
            {"attribute": readable(name), "value": value, "source": source_of[name] or listed}
            for name, value in values.items()
        ]
        text = "\n".join(f"{name}: {value}" for name, value in texts.items())
        return GenerativeExample({"text": ("text", text)}, json.dumps(answer, ensure_ascii=False))

    @classmethod
    def parse(cls, text: str, choices: Collection[str]) -> frozenset[Attribute] | None:
        """Parse a JSON list of attributes.

        See `Task.parse`.
        """
        return parse_attributes(text)


def _source_of(value: str, texts: dict[str, str]) -> str | None:
    return next((name for name, text in texts.items() if _stands_in(value, text)), None)


def _stands_in(value: str, text: str) -> bool:
    # An answer is compared as written but for case, so that the value has to be there as written, too.
    return value.casefold() in text.casefold() and contains_words(normal_form(text), normal_form(value))


def _unused(name: str, texts: dict[str, str]) -> str:
    """Return a name that no text has yet, in any case: `details`, `details 2`, ..."""
    used = {other.casefold() for other in texts}
    names = (name if number == 1 else f"{name} {number}" for number in itertools.count(1))
    return next(each for each in names if each.casefold() not in used)
