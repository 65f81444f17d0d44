"""Published systems: each puts the rooms together."""
