"""The request of a run: names of model and data set, YAML files and settings, from the command line or from Python."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from recbole_recfound.config.settings import Settings, settings_of
from recbole_recfound.errors import ConfigError
from recbole_recfound.system.defaults import DEFAULTS

OF_BASELINES = ("baselines", "baseline_args", "blend")
"""Settings that speak of the baselines of a table."""
NOUNS = {"model": "model", "dataset": "data set"}


@dataclass(frozen=True)
class Request:
    """A user's request for a run.

    Attributes:
        model: name of a system or of one of RecBole's models.
        dataset: name of the data set.
        settings: checked settings of files and dict, without `model` and `dataset`, and notes about them.
        of_study: a part of a study, for which a finished run of the same settings in its `output_dir` is taken.
    """

    model: str
    dataset: str
    settings: Settings = field(default_factory=Settings)
    of_study: bool = False

    @classmethod
    def of(
        cls,
        model: str | None = None,
        dataset: str | None = None,
        config_file_list: Sequence[str | Path] | None = None,
        config_dict: Mapping[str, Any] | None = None,
        baselines: Sequence[str] | None = None,
    ) -> Request:
        """Join files, dict and arguments; later ones win. The command line and Python share this rule.

        Args:
            model: name; None: `model` of the dict or of the files, else the default.
            dataset: name; likewise.
            config_file_list: YAML files, weakest first.
            config_dict: settings by key.
            baselines: RecBole models for the table; None: as in the settings.

        Raises:
            ConfigError: unknown keys or wrong values.
        """
        given = Settings(config_dict)
        if baselines is not None:
            given.put("baselines", list(baselines))
        settings = settings_of(config_file_list, given, model, DEFAULTS["model"])
        names = {}
        for key, argument in (("model", model), ("dataset", dataset)):
            in_settings = settings.pop(key, None)
            given_names = [name for name in (argument, in_settings, DEFAULTS[key]) if name is not None]
            if not given_names[0]:
                raise ConfigError(f"{key}: got {given_names[0]!r}, expected the name of a {NOUNS[key]}")
            names[key] = given_names[0]
        return cls(names["model"], names["dataset"], settings)


def without_baselines(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings of a study's own runs, whose tables have no baselines.

    Args:
        settings: of the study.
    """
    return {key: value for key, value in settings.items() if key not in OF_BASELINES}
