"""sightstream.io.ignored: which names are left alone, and that the documentation lists them."""

import re
from pathlib import Path

import pytest

from sightstream.io.ignored import KNOWN, ignored

PAGE = Path(__file__).parents[2] / "docs/images-in.md"


def test_the_documentation_lists_each_known_name():
    section = PAGE.read_text().partition("### Names that are left alone")[2].partition("\n## ")[0]
    table = re.findall(r"^\| .* \| (.*) \|$", section, re.M)[1:]
    listed = [each.replace("\\r", "\r") for row in table for each in re.findall("`([^`]+)`", row)]
    assert sorted(each.lower() for each in listed) == sorted(KNOWN)


def test_a_known_name_is_in_lower_case_and_there_once():
    assert len(set(KNOWN)) == len(KNOWN)
    assert [each for each in KNOWN if each != each.lower()] == []


@pytest.mark.parametrize("pattern", KNOWN)
def test_each_known_name_is_left_alone_in_any_case(pattern):
    name = pattern.replace("[a-z0-9]", "a").replace("[0-9a-f]", "0").replace("[0-9]", "7")
    name = name.replace("*", "x").replace("?", "y").encode()
    assert ignored()(name)
    assert ignored()(name.upper())


TAKEN = [
    "x.jpg", ".x.jpg", ".dotted.jpg", "part", "x.part.jpg", "tmp", "x.jpg~", "thumbs.db.jpg",
    "trash", "sync", "eaDir", "@x.jpg", "#1.jpg", "~x.jpg", ".x", "...", "caf\udce9.jpg", "recycle",
    "x.jpg.Ab12Cd", "IMG_1234.JPG", "download", "temp", "found.jpg", "\u00e9\u00e9.png",
]  # fmt: skip


@pytest.mark.parametrize("name", TAKEN, ids=ascii)
def test_other_names_are_taken(name):
    assert not ignored(["*.sidecar"])(name.encode(errors="surrogateescape"))


GLOBS = [
    ("thumb_*", "thumb_1.jpg"), ("*_t.jpg", "A_T.JPG"), ("a*b?[cd]", "axxbyc"), ("proxy", "Proxy"),
    ("\u00fc?", "\u00fcx"),
]  # fmt: skip


@pytest.mark.parametrize(("pattern", "name"), GLOBS)
def test_further_patterns_are_globs_of_whole_names(pattern, name):
    is_ignored = ignored([pattern])
    assert is_ignored(name.encode())
    assert is_ignored(f"1{name}".encode()) == (pattern[0] == "*")
    assert is_ignored(f"{name}1".encode()) == (pattern[-1] == "*")


def test_no_name_at_all_is_none_of_them():
    assert not ignored(["*.x"])(b"")
