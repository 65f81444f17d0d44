"""Default model and data set of a run."""

DEFAULTS = {"model": "RecFound", "dataset": "ml-100k"}
