"""Texts to be written behind a source: records of files, examples made from a catalogue, metrics."""
