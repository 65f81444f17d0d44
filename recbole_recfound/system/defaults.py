"""Model and data set of a run that names none."""

DEFAULTS = {"model": "RecFound", "dataset": "ml-100k"}
