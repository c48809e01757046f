"""The images of the benchmarks, cropped from scikit-learn's sample photographs."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
from PIL import Image

DISTINCT = 500


def small(folder: Path, count: int, seed: int = 0) -> list[Path]:
    """JPEG files of 256x256 pixels and about 24 KB.

    Args:
        folder: gets them.
        count: how many; `DISTINCT` of them differ.
        seed: of the crops.
    """
    return _write(folder, count, (256, 256), quality=88, seed=seed)


def large(folder: Path, count: int, seed: int = 0) -> list[Path]:
    """JPEG files of 2000x1334 pixels.

    Args:
        folder: gets them.
        count: how many; a tenth of `DISTINCT` of them differ.
        seed: of the crops.
    """
    return _write(folder, count, (2000, 1334), quality=88, seed=seed)


def _write(folder: Path, count: int, size: tuple[int, int], quality: int, seed: int) -> list[Path]:
    from sklearn.datasets import load_sample_images

    folder.mkdir(parents=True)
    photographs = [Image.fromarray(each) for each in load_sample_images().images]
    random = np.random.default_rng(seed)
    distinct = min(count, DISTINCT if size[0] < 1000 else DISTINCT // 10)
    paths = [folder / f"{number:06d}.jpg" for number in range(count)]
    for number, path in enumerate(paths[:distinct]):
        photograph = photographs[number % len(photographs)]
        scale = random.uniform(0.5, 1.0) if size[0] < 1000 else random.uniform(0.9, 1.0)
        height = int(photograph.height * scale) if size[0] > 1000 else 256
        width = height * size[0] // size[1]
        width, height = min(width, photograph.width), min(height, photograph.height)
        left = int(random.integers(0, photograph.width - width + 1))
        top = int(random.integers(0, photograph.height - height + 1))
        crop = photograph.crop((left, top, left + width, top + height))
        crop.resize(size, Image.Resampling.BICUBIC).save(path, quality=quality)
    for number, path in enumerate(paths[distinct:], distinct):
        shutil.copyfile(paths[number % distinct], path)
    return paths
