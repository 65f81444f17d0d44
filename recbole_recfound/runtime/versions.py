"""The packages that a result depends on."""

from importlib import metadata

PACKAGES = ("recbole", "torch", "transformers", "peft", "accelerate", "numpy", "pandas", "scipy")


def versions() -> dict[str, str]:
    """Installed version of each, by name."""
    return {name: metadata.version(name) for name in PACKAGES}
