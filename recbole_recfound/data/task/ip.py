"""IP: item profile generation."""

from recbole_recfound.data.task.base import register_task
from recbole_recfound.data.task.examples import GenerativeExample
from recbole_recfound.data.task.facts import details, first_words, has_title, sentences
from recbole_recfound.data.task.kept import ItemTask
from recbole_recfound.data.task.metrics import BLEU, RougeL


@register_task("IP")
class ItemProfile(ItemTask):
    """Describe an item by its recorded fields, given its title."""

    id = 10
    title = "item profile generation"
    record = "item_profile"
    prompt = 'Describe the item "{{ item }}" by its attributes.'
    slots = ("item",)
    metrics = (RougeL, BLEU)
    needs = "no item has a title and further fields"
    long_words = 40

    def suits(self, row: int) -> bool:
        """Return whether the item has a title and further fields."""
        return has_title(self.source, row) and bool(self._facts(row))

    def of_row(self, row: int) -> GenerativeExample:
        """Return the title with all fields as sentences."""
        return GenerativeExample({"item": ("title", row)}, sentences(self._facts(row)))

    def _facts(self, row: int) -> dict[str, str]:
        long = {
            name: first_words(value, self.long_words).rstrip(".")
            for name, value in self.source.catalogue.long_values[row].items()
        }
        return details(self.source, row) | long
