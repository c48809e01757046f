"""training.copies: which images are copies of one picture, and which are not."""

import hashlib
import io

import numpy as np
import pytest
from PIL import Image, ImageEnhance, ImageFilter

from sightstream.images.decode import Preprocessing, decode
from sightstream.images.limits import Limits
from training import copies

SEED = 20260511
SIZES = [Preprocessing(24, 24), Preprocessing(64, 96), Preprocessing(16, 16, 1)]


def picture(number, width=240, height=160):
    """A picture of its own: coloured shapes, blurred as a lens does."""
    dice = np.random.default_rng([SEED, number])
    small = dice.integers(0, 256, (6, 9, 3)).astype(np.uint8)
    return Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC)


def encoded(image, **how):
    buffer = io.BytesIO()
    image.save(buffer, **{"format": "PNG"} | how)
    return buffer.getvalue()


def noisy(image):
    noise = np.random.default_rng(SEED).normal(0, 8, (image.height, image.width, 3))
    return Image.fromarray(np.clip(np.asarray(image) + noise, 0, 255).astype(np.uint8))


AUGMENTED = {
    "JPEG": lambda i: encoded(i, format="JPEG", quality=50),
    "WebP": lambda i: encoded(i, format="WEBP", quality=40),
    "half": lambda i: encoded(i.resize((120, 80))),
    "brighter": lambda i: encoded(ImageEnhance.Brightness(i).enhance(1.15)),
    "darker": lambda i: encoded(ImageEnhance.Brightness(i).enhance(0.5)),
    "contrast": lambda i: encoded(ImageEnhance.Contrast(i).enhance(0.6)),
    "grey": lambda i: encoded(i.convert("L")),
    "blurred": lambda i: encoded(i.filter(ImageFilter.GaussianBlur(2))),
    "noise": lambda i: encoded(noisy(i)),
    "cut by 1 %": lambda i: encoded(i.crop((2, 1, 238, 159))),
    "mirrored": lambda i: encoded(i.transpose(Image.Transpose.FLIP_LEFT_RIGHT)),
    "upside down": lambda i: encoded(i.transpose(Image.Transpose.FLIP_TOP_BOTTOM)),
    "turned": lambda i: encoded(i.transpose(Image.Transpose.ROTATE_90)),
    "turned and mirrored": lambda i: encoded(i.transpose(Image.Transpose.TRANSVERSE)),
}


def grouped(*contents, size=SIZES[0], names=()):
    """The groups of encoded images, as sets of their numbers."""
    digests = [hashlib.sha256(each).hexdigest() for each in contents]
    pixels = [decode(each, size, Limits()).pixels.tobytes() for each in contents]
    small = [copies.thumbnail(each, size.shape) for each in pixels]
    told = [(digests[n], path, label) for n, (path, label) in enumerate(names)]
    found = copies.groups(dict(zip(digests, small, strict=True)), told)
    return {
        frozenset(n for n, digest in enumerate(digests) if found.get(digest) == each)
        for each in found.values()
    }


@pytest.mark.parametrize("size", SIZES, ids=lambda size: "x".join(map(str, size.shape)))
@pytest.mark.parametrize("how", AUGMENTED)
def test_a_copy_is_grouped_with_its_picture_and_with_no_other(how, size):
    pictures = [encoded(picture(n)) for n in range(6)]
    copy = AUGMENTED[how](picture(3))
    assert grouped(*pictures, copy, size=size) == {frozenset({3, 6})}


def test_copies_of_copies_are_one_group():
    chain = [picture(1)]
    for _ in range(4):
        chain.append(ImageEnhance.Brightness(chain[-1]).enhance(0.8))
    others = [encoded(picture(n)) for n in range(2, 5)]
    assert grouped(*map(encoded, chain), *others) == {frozenset(range(5))}


def test_pictures_without_content_are_no_copies_of_each_other():
    flat = [Image.new("RGB", (40, 40), (level,) * 3) for level in (0, 100, 101, 255)]
    assert grouped(*map(encoded, flat)) == set()


def test_many_images_are_compared_in_parts(monkeypatch):
    monkeypatch.setattr(copies, "_CELLS", 100)
    pictures = [encoded(picture(n)) for n in range(40)]
    copied = [AUGMENTED["JPEG"](picture(n)) for n in (0, 17, 39)]
    expected = {frozenset({0, 40}), frozenset({17, 41}), frozenset({39, 42})}
    assert grouped(*pictures, *copied) == expected


def test_what_roboflow_made_of_a_picture_is_known_by_its_name():
    names = [
        ("/d/train/cat/a_jpg.rf.0a1b2c.jpg", "cat"), ("/d/valid/cat/a_jpg.rf.ffee12.jpg", "cat"),
        ("/d/train/dog/a_jpg.rf.123456.jpg", "dog"), ("/d/train/cat/b_jpg.rf.0a1b2c.jpg", "cat"),
        ("/d/train/cat/a_jpg.jpg", "cat"),
    ]  # fmt: skip
    pictures = [encoded(picture(n)) for n in range(5)]
    assert grouped(*pictures, names=names) == {frozenset({0, 1})}


def test_no_images_make_no_groups():
    assert copies.groups({}) == {}


def plain(thumbnails):
    """The groups by comparing each with each, as sets of their numbers."""
    images = np.stack([np.frombuffer(each, np.float16) for each in thumbnails]).astype(np.float64)
    images -= images.mean(axis=1, keepdims=True)
    lengths = np.sqrt((images**2).sum(axis=1, keepdims=True))
    images /= np.where(lengths < copies.FLAT * copies.SIDE, np.inf, lengths)
    ways = images.reshape(-1, copies.SIDE, copies.SIDE)
    alike = np.zeros((len(images), len(images)), bool)
    for each in (ways, ways.transpose(0, 2, 1)):
        for turns in range(4):
            turned = np.rot90(each, turns, axes=(1, 2)).reshape(len(images), -1)
            alike |= turned @ images.T >= copies.ALIKE
    alike |= np.eye(len(images), dtype=bool)
    group = np.arange(len(images))
    while (least := np.where(alike, group, len(group)).min(axis=1)).tolist() != group.tolist():
        group = least
    sets = [frozenset(np.flatnonzero(group == n).tolist()) for n in set(group.tolist())]
    return {each for each in sets if len(each) > 1}


def neighbours(dice, count, spread):
    """Thumbnails of pictures that are each turned in some way, with noise around the limit."""
    of = dice.normal(0, 1, (count, 4, 4)).repeat(2, axis=1).repeat(2, axis=2) * 40 + 128
    for image in of:
        yield image
        for _ in range(dice.integers(0, 4)):
            noise = dice.normal(0, spread * dice.uniform(0, 2), image.shape)
            yield np.rot90(image.T if dice.integers(2) else image, dice.integers(4)) + noise


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("kind", ["pictures", "close pictures", "flat", "frames of one film"])
def test_the_groups_are_those_of_comparing_each_with_each(kind, seed, monkeypatch):
    monkeypatch.setattr(copies, "_CELLS", 20_000)
    dice = np.random.default_rng([SEED, seed])
    made = {
        "pictures": lambda: [*neighbours(dice, 100, 8)],
        "close pictures": lambda: [*dice.normal(0, 9, (200, 8, 8)) + dice.normal(0, 40, (8, 8))],
        "flat": lambda: [*dice.normal(128, 1.5 * dice.uniform(0, 2), (100, 8, 8))],
        "frames of one film": lambda: [*dice.normal(0, 3, (200, 8, 8)).cumsum(axis=0)],
    }[kind]()
    small = [each.astype(np.float16).tobytes() for each in made]
    found = copies.groups({f"{n:06d}": each for n, each in enumerate(small)})
    named = {
        frozenset(int(d) for d in found if found[d] == name): int(name) for name in found.values()
    }
    assert set(named) == plain(small)
    assert all(name == min(group) for group, name in named.items())
