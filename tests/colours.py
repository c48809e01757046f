"""Data sets of noisy pictures, whose classes are colours."""

import numpy as np
from PIL import Image

COLOURS = {"red": (200, 40, 40), "green": (40, 180, 60), "blue": (40, 60, 200)}
YELLOW = {"yellow": (210, 200, 40)}


def draw(folder, colours, count, seed):
    """Writes class folders of noisy pictures of one colour each; returns their folder."""
    random = np.random.default_rng(seed)
    for label, colour in colours.items():
        (folder / label).mkdir(parents=True)
        for number in range(count):
            pixels = random.normal(colour, 30, (24, 32, 3)).clip(0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(folder / label / f"{seed}-{number}.png")
    return folder
