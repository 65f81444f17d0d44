"""Tasks of M6-Rec, one file each, registered where they stand."""
