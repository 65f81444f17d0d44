"""Errors a user can mend: one clear line each, exit code 2, no traceback."""


class RecFoundError(Exception):
    """Base of every error that the command line prints as one line."""


class ConfigError(RecFoundError, ValueError):
    """A configuration key or value is wrong: names the key, what was found and what to do."""


class DataError(RecFoundError, ValueError):
    """A data file is missing or malformed: names file:line (or row and field) and what to do."""


class BackboneError(RecFoundError, ValueError):
    """A backbone cannot be found or used: names it and gives the command that mends it."""


class TrainingError(RecFoundError, RuntimeError):
    """Training cannot go on (NaN or infinite loss, a silent adapter): names task and batch."""
