"""Recommendations and scores of a finished run."""
