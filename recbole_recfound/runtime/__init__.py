"""Device, precision, clock and run folder."""
