"""Whether a recipe fits a GPU, and how long it takes: from a model's config.json alone, without torch."""
