"""Measurements of speed and memory, and synthetic data sets."""
