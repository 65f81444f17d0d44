"""Registry of adapters."""

from collections.abc import Callable

from peft import PeftConfig

from recbole_recfound.runtime import registry

ADAPTERS: registry.Registry[Callable[..., PeftConfig]] = registry.ADAPTERS
"""All adapters by name: PEFT configuration classes, or functions that return a configuration."""
