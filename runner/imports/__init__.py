"""Recipes from other tools' configurations: `recipe import`."""
