"""A finished run over HTTP."""
