"""Training: the loop, its clock, checkpoints and probes."""
