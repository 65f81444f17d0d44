"""Splits, histories and evaluation loaders."""
