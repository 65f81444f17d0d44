"""RecBole model classes of RecFound and IAK."""
