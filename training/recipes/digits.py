"""Handwritten digits by transfer learning, after the published project on Bengali digits."""

from sightstream.images.decode import Preprocessing
from training.recipes import Recipe

RECIPE = Recipe(
    name="digits",
    preprocessing=Preprocessing(96, 96),
    shares=(0.8, 0.0, 0.2),
)
