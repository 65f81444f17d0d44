"""Published systems: each combines the rooms."""
