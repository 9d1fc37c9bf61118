"""`make gpu-check`: what a GPU gives."""
