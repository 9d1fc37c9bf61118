"""What is done to a model after its training, in the evaluation environment: merged, pushed."""
