"""What is shown of evaluated models: comparison, tables, plots, history."""
