"""UP: user profile generation."""

from recbole_recfound.data.task.base import register_task
from recbole_recfound.data.task.examples import GenerativeExample
from recbole_recfound.data.task.facts import sentences
from recbole_recfound.data.task.kept import UserTask
from recbole_recfound.data.task.metrics import BLEU, RougeL
from recbole_recfound.data.task.settings import HistoryOptions


@register_task("UP")
class UserProfile(UserTask):
    """Describe a user by the recorded fields, given the user's items."""

    id = 9
    title = "user profile generation"
    record = "user_profile"
    Options = HistoryOptions
    options: HistoryOptions
    prompt = "A user chose these items, oldest first:\n{{ history }}\n\nDescribe the user."
    slots = ("history",)
    metrics = (RougeL, BLEU)
    reads_profiles = True
    needs = "no .user file with text columns"

    def suits(self, row: int) -> bool:
        """Return whether the user has a profile."""
        return bool(self.source.profiles.get(self.source.users[row]))

    def of_row(self, row: int) -> GenerativeExample:
        """Return the user's newest items with all fields as sentences."""
        history = self.source.history(row)[-self.options.history_titles :]
        profile = self.source.profiles[self.source.users[row]]
        return GenerativeExample({"history": ("titles", tuple(history.tolist()))}, sentences(profile))
