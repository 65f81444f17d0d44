"""Option tuning and option-adapter tuning (M6-Rec, arXiv 2205.08084), as a PEFT tuner.

Importing this package makes the method known to PEFT, as `adapter.tmole` does.
"""

from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING
from peft.utils import register_peft_method

from recbole_recfound.adapter.option.config import OPTION, OptionConfig
from recbole_recfound.adapter.option.layer import OptionLayer
from recbole_recfound.adapter.option.model import OptionModel

__all__ = ["OptionConfig", "OptionLayer", "OptionModel"]

if OPTION not in PEFT_TYPE_TO_CONFIG_MAPPING:
    register_peft_method(name="option", config_cls=OptionConfig, model_cls=OptionModel)
