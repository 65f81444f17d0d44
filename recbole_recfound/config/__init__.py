"""RecBole's `Config` made strict: schema, YAML files and names of models."""
