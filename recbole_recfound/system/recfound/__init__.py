"""RecFound: one LLM trained on embedding and generative tasks."""
