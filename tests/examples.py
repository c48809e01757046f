"""Images of data sets that are not there, and the split of them."""

import hashlib
import os
from collections import Counter

from training import split
from training.datasets import Example

SHARES = (0.7, 0.1, 0.2)


def images(where="/data", **classes):
    """So many images of each class, as yet unread."""
    return [
        Example(f"{where}/{c}/{i}.png", c) for c, count in classes.items() for i in range(count)
    ]


def digest(text):
    return hashlib.sha256(os.fsencode(text)).hexdigest()


def seen(found, **contents):
    """What the workers say: the last two parts of a path are its content, if none is given."""
    told = {e.uri: (digest("/".join(e.path.split("/")[-2:])), "") for e in found}
    return told | {e.uri: contents[e.path] for e in found if e.path in contents}


def divide(found, *, told=None, known=None, shares=SHARES, seed=0, **options):
    return split.divide(found, told or seen(found), shares, seed, known=known or {}, **options)


def sides(examples):
    """The split of each content."""
    return {e.digest: e.split for e in examples if e.split}


def sizes(examples):
    """How many images of each class are on each side."""
    return Counter((e.label, e.split) for e in examples if e.split)


def faults(examples):
    return {e.path: e.fault for e in examples if e.fault}
