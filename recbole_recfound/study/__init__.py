"""Studies over many runs: the long table and repeated seeds."""
