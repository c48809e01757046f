"""sightstream.scoring.occlusion: what a model looks at is what the map shows."""

import numpy as np
import pytest

from sightstream.scoring.occlusion import occlusion


def looking_at(rows, columns):
    """An engine whose first score is the brightness of one place in the picture."""

    def engine(pixels):
        assert pixels.dtype == np.uint8
        seen = pixels[:, rows, columns].mean(axis=(1, 2, 3)) / 255
        return np.stack([seen, 1 - seen], axis=1).astype(np.float32)

    return engine


@pytest.mark.parametrize("shape", [(24, 24, 3), (106, 150, 1), (1, 1, 3), (5, 40, 1)])
def test_the_map_has_the_shape_of_the_picture(shape):
    engine = looking_at(slice(None), slice(None))
    heat = occlusion(engine, np.full(shape, 9, np.uint8), 0)
    assert heat.shape == shape[:2]
    assert heat.dtype == np.float32
    assert np.isfinite(heat).all()


def test_the_place_that_decides_is_where_the_map_is_highest():
    pixels = np.zeros((48, 60, 3), np.uint8)
    rows, columns = slice(30, 36), slice(10, 16)
    pixels[rows, columns] = 255
    heat = occlusion(looking_at(rows, columns), pixels, 0)
    y, x = np.unravel_index(heat.argmax(), heat.shape)
    assert 30 <= y < 36
    assert 10 <= x < 16
    assert heat[rows, columns].mean() > 0.5
    assert heat[:20, 30:].max() == 0


def test_what_speaks_against_a_label_is_below_nought():
    pixels = np.zeros((48, 48, 3), np.uint8)
    rows, columns = slice(8, 16), slice(8, 16)
    pixels[rows, columns] = 255
    assert occlusion(looking_at(rows, columns), pixels, 1)[12, 12] < -0.5
