"""sightstream.images.av1: sizes in sequence headers, also of kinds that Pillow does not write."""

import pytest

from sightstream.images.av1 import coded_size


def bits(*pairs):
    """Bytes of numbers, each with its width in bits."""
    text = "".join(f"{number:0{width}b}" for number, width in pairs)
    text += "0" * (-len(text) % 8)
    return int(text, 2).to_bytes(len(text) // 8, "big")


def unit(kind, content, *, sized=True):
    head = bytes([kind << 3 | 2 * sized])
    return head + (bytes([len(content)]) if sized else b"") + content


SIZE = [(15, 4), (11, 4), (40_000 - 1, 16), (3000 - 1, 12)]
STILL = bits((0, 3), (1, 1), (1, 1), (4, 5), *SIZE)
TIMED = bits(
    (0, 3), (0, 1), (0, 1), (1, 1), (1, 32), (24, 32), (1, 1), (1, 3), (0, 2),  # ticks: uvlc 1
    (1, 1), (3, 5), (1, 32), (4, 5), (4, 5), (1, 1), (1, 5),
    (0, 12), (8, 5), (1, 1), (1, 1), (9, 9), (0, 1),  # a level with a tier, a model, no delay
    (0, 12), (7, 5), (0, 1), (1, 1), (5, 4), *SIZE,
)  # fmt: skip


@pytest.mark.parametrize("header", [STILL, TIMED])
@pytest.mark.parametrize("sized", [True, False])
def test_a_size_is_read_behind_other_units(header, sized):
    stream = unit(2, b"") + unit(1, header, sized=sized)
    assert coded_size(stream) == (40_000, 3000)


def test_what_has_no_sequence_header_has_no_size():
    assert coded_size(b"") is None
    assert coded_size(unit(2, b"") + unit(6, b"abc")) is None


def test_a_header_that_is_cut_short_says_so():
    with pytest.raises(ValueError, match="cut short"):
        coded_size(unit(1, STILL[:3]))
