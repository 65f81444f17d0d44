"""Evaluation: one protocol for all models, RecBole's baselines, metrics and the report."""
