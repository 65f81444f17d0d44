"""What all uses of PEFT have in common: a part of an adapter that its layers share, names of modules, warnings."""

from __future__ import annotations

import warnings
from abc import abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from peft import PeftConfig
from peft.tuners.tuners_utils import BaseTuner
from torch import nn


@contextmanager
def adapting() -> Iterator[None]:
    """Keep back warnings about adapters that no user can do anything about."""
    with warnings.catch_warnings():
        # PEFT asks a model of transformers by a name that is going to change.
        warnings.filterwarnings("ignore", "`is_gradient_checkpointing` is deprecated", FutureWarning)
        # A LoRA beside an adapter of another kind is wanted where it is asked for.
        warnings.filterwarnings("ignore", "Already found a `peft_config`", UserWarning)
        yield


class PlacedConfig(PeftConfig):
    """A configuration with `target_modules` and `exclude_modules`, names of modules or a regex.

    Each subclass declares its own fields: settings take the options that a class itself declares.
    """

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("target_modules", "exclude_modules"):
            if isinstance(getattr(self, name), list):
                setattr(self, name, set(getattr(self, name)))  # as PEFT's own configs do


class SharedPartTuner(BaseTuner):
    """A tuner whose adapters have, beside their layers, a part that PEFT does not know of: it is trained with them."""

    @abstractmethod
    def _parts(self) -> nn.ModuleDict | nn.ParameterDict:
        """Return the part of each adapter, by name."""

    def set_adapter(self, adapter_name: str | list[str], inference_mode: bool = False) -> None:
        """Make one or several adapters active; only their weights and shared parts are trainable.

        Args:
            adapter_name: one name or several.
            inference_mode: keep the weights frozen.
        """
        super().set_adapter(adapter_name, inference_mode=inference_mode)
        for name, part in self._parts().items():
            part.requires_grad_(name in self.active_adapters and not inference_mode)

    def set_requires_grad(self, adapter_names: str | Sequence[str], requires_grad: bool = True) -> None:
        """Freeze or unfreeze adapters, shared parts included.

        Args:
            adapter_names: one name or several.
            requires_grad: whether the weights are trained.
        """
        super().set_requires_grad(adapter_names, requires_grad)
        for name in [adapter_names] if isinstance(adapter_names, str) else adapter_names:
            if name in self._parts():
                self._parts()[name].requires_grad_(requires_grad)

    def delete_adapter(self, adapter_name: str) -> None:
        """Delete an adapter and its shared part."""
        super().delete_adapter(adapter_name)
        del self._parts()[adapter_name]

    def _enable_adapter_layers(self, enabled: bool = True) -> None:
        super()._enable_adapter_layers(enabled)
        for name, part in self._parts().items():
            part.requires_grad_(enabled and name in self.active_adapters)
