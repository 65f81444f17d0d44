"""RecBole's atomic files: find, read and check."""
