"""Tasks whose answer is yes or no."""

from collections.abc import Collection

from recbole_recfound.data.task.answers import NO_YES, parse_yes_no
from recbole_recfound.data.task.base import RecordOnlyTask
from recbole_recfound.data.task.metrics import YesF1


class YesNoTask(RecordOnlyTask):
    """A task from records whose answers begin with yes or no."""

    metrics = (YesF1,)
    closed = True
    answers = NO_YES

    @classmethod
    def parse(cls, text: str, choices: Collection[str]) -> str | None:
        """Parse yes or no.

        See `Task.parse`.
        """
        return parse_yes_no(text)
