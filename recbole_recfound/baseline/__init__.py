"""RecBole's own models, and other ways of fine-tuning."""
