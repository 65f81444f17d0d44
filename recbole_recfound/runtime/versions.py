"""The packages that a result depends on."""

from importlib import metadata

PACKAGES = ("recbole", "torch", "transformers", "peft", "accelerate", "numpy", "pandas", "scipy")


def versions() -> dict[str, str]:
    """Return the installed version of each package, by name."""
    return {name: metadata.version(name) for name in PACKAGES}
