"""Training: plan, data, launch, progress, checkpoints and their scores."""
