"""A finished run in the formats of other libraries."""

from recbole_recfound.serving.export.formats import FORMATS, export_run, push

__all__ = ["FORMATS", "export_run", "push"]
