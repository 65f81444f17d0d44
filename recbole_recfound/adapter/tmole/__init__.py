"""TMoLE: a task-routed mixture of low-rank experts, as a PEFT tuner.

Importing this package makes the method known to PEFT: `get_peft_model`, `PeftModel.from_pretrained` and the
`AutoPeftModel` classes then accept it like PEFT's own.
"""

from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING
from peft.utils import register_peft_method

from recbole_recfound.adapter.tmole.config import TMOLE, TMoLEConfig
from recbole_recfound.adapter.tmole.layer import Linear, TMoLELayer
from recbole_recfound.adapter.tmole.model import TASKS_ARGUMENT, TMoLEModel
from recbole_recfound.adapter.tmole.routing import checkpoint_context_fn
from recbole_recfound.adapter.tmole.tasks import Tasks

__all__ = ["TASKS_ARGUMENT", "Linear", "TMoLEConfig", "TMoLELayer", "TMoLEModel", "Tasks", "checkpoint_context_fn"]

if TMOLE not in PEFT_TYPE_TO_CONFIG_MAPPING:
    register_peft_method(name="tmole", config_cls=TMoLEConfig, model_cls=TMoLEModel)
