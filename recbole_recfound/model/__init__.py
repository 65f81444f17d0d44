"""RecBole model classes, thin."""
