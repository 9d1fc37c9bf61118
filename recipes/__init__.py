"""What a recipe is: its schema, its loader, its types, and the catalogue of recipes to copy."""

from recipes.errors import Problem, UserError, did_you_mean
from recipes.load import LoadedRecipe, catalogue, find, load, load_text, names, stages_of, trainings
from recipes.types import Recipe

__all__ = [
    "LoadedRecipe",
    "Problem",
    "Recipe",
    "UserError",
    "catalogue",
    "did_you_mean",
    "find",
    "load",
    "load_text",
    "names",
    "stages_of",
    "trainings",
]
