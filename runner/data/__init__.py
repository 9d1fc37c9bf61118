"""Data preparation: any source to the same rows, tokens and loss mask; runs in the backend's environment."""
