"""Draw pictures with the labels that a model gives them, for a look by eye.

    python -m benchmarks.sheet MODEL PICTURE... --home HOME --out sheet.png

The pictures of docs/imagenet.png are free: scikit-learn's china.jpg and flower.jpg (CC BY), and
chelsea.png, coffee.png, rocket.jpg and camera.png of scikit-image (CC0 or public domain).
"""

import argparse
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from PIL import Image, ImageOps

import sightstream

COLUMNS = 3


def main() -> None:
    """Draws the sheet."""
    parser = argparse.ArgumentParser(prog="benchmarks.sheet", description=__doc__)
    parser.add_argument("model")
    parser.add_argument("pictures", type=Path, nargs="+")
    parser.add_argument("--home", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    chosen = parser.parse_args()
    model = sightstream.load_model(chosen.model, home=chosen.home)
    answers = sightstream.predict(chosen.pictures, model)
    rows = -(-len(answers) // COLUMNS)
    figure, places = plt.subplots(rows, COLUMNS, figsize=(9, 3.9 * rows), squeeze=False)
    for place in places.flat:
        place.axis("off")
    for place, path, answer in zip(places.flat, chosen.pictures, answers, strict=False):
        place.imshow(ImageOps.fit(Image.open(path).convert("RGB"), (320, 320)))
        lines = [f"{each['label']} {each['score']:.0%}" for each in answer["top"]]
        place.set_title("\n".join(lines), fontsize=11)
    figure.tight_layout()
    figure.savefig(chosen.out, dpi=75)


if __name__ == "__main__":
    main()
