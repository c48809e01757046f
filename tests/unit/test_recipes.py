"""training.recipes: each is found by its name, and a mistake in one's own file by its line."""

import re
import shlex
import subprocess
import sys
from importlib import import_module
from math import cos, pi
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest
from typer.main import get_command

from sightstream.cli.main import app
from sightstream.errors import InputError
from training.recipes import NAMES, Recipe, cosine, find
from training.train import learn

NETWORKS = [
    (name, network)
    for name in NAMES
    for network in getattr(import_module(f"training.recipes.{name}"), "NETWORKS", {})
]

DOCS = (Path(__file__).parents[2] / "docs" / "recipes.md").read_text("utf-8")

MINE = """\
from sightstream.images.decode import Preprocessing
from training.recipes import Recipe


RECIPE = Recipe("mine", Preprocessing(8, 8), network=lambda labels: f"a network of {labels}")
NETWORKS = {"first": RECIPE, "second": Recipe("mine", Preprocessing(9, 9))}
"""


@pytest.fixture
def mine(tmp_path, monkeypatch):
    """Writes a recipe file where one stands, and gives its name as a user types it."""
    monkeypatch.chdir(tmp_path)

    def write(text=MINE):
        (tmp_path / "mine.py").write_text(text, "utf-8")
        return "./mine.py"

    return write


# Those that are built in


@pytest.mark.parametrize("name", NAMES)
def test_a_recipe_is_found_by_its_name(name):
    recipe = find(name)
    assert isinstance(recipe, Recipe)
    assert recipe.name == name


@pytest.mark.parametrize(("name", "network"), NETWORKS)
def test_a_network_of_a_recipe_is_found_by_its_name(name, network):
    recipe = find(name, network)
    assert isinstance(recipe, Recipe)
    assert recipe.name == name


def test_the_recipes_with_several_networks_are_the_documented_ones():
    assert {*NETWORKS} == {
        *(("cars", network) for network in ("squeezenet", "mlp", "cnn", "resnet")),
        *(("skin", network) for network in ("mlp", "cnn", "squeezenet")),
    }


@pytest.mark.parametrize("name", sorted({name for name, _ in NETWORKS}))
def test_the_network_that_is_taken_by_default_has_a_name_too(name):
    assert find(name) in [find(name, network) for of, network in NETWORKS if of == name]


@pytest.mark.parametrize(("name", "network"), [*((name, None) for name in NAMES), *NETWORKS])
def test_the_shares_are_those_of_a_whole_that_is_trained_and_judged(name, network):
    train, validation, test = find(name, network).shares
    assert train + validation + test == pytest.approx(1)
    assert train > 0.5
    assert validation or test


@pytest.mark.parametrize(("name", "network"), [*((name, None) for name in NAMES), *NETWORKS])
def test_what_needs_a_featuriser_sees_colours(name, network):
    recipe = find(name, network)
    assert callable(recipe.network) or recipe.preprocessing.channels == 3


@pytest.mark.parametrize(
    ("name", "network", "shape", "shares"),
    [
        ("starter", None, (16, 16, 1), (0.7, 0.1, 0.2)),
        ("leaf", None, (24, 24, 3), (0.8, 0.2, 0.0)),
        ("digits", None, (96, 96, 3), (0.8, 0.0, 0.2)),
        ("xray", None, (106, 150, 1), (0.6, 0.2, 0.2)),
        ("cars", None, (160, 256, 3), (0.7, 0.15, 0.15)),
        ("cars", "mlp", (64, 64, 3), (0.7, 0.15, 0.15)),
        ("cars", "cnn", (64, 64, 3), (0.7, 0.15, 0.15)),
        ("cars", "resnet", (64, 64, 3), (0.7, 0.15, 0.15)),
        ("skin", None, (32, 32, 3), (0.75, 0.1, 0.15)),
        ("skin", "cnn", (64, 64, 3), (0.75, 0.1, 0.15)),
        ("skin", "squeezenet", (160, 160, 3), (0.8, 0.0, 0.2)),
    ],
)
def test_a_recipe_has_the_documented_input_and_split(name, network, shape, shares):
    recipe = find(name, network)
    assert (recipe.preprocessing.shape, recipe.shares) == (shape, shares)


def test_only_the_starter_brings_its_own_images():
    assert [name for name in NAMES if find(name).prepare] == ["starter"]


def test_to_find_recipes_imports_nothing_heavy():
    code = (
        "import sys; from training.recipes import NAMES, find; [find(name) for name in NAMES]; "
        "print([m for m in ('tensorflow', 'keras', 'pyspark', 'sklearn') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert (done.stdout, done.returncode) == ("[]\n", 0), done.stderr


@pytest.mark.parametrize("name", ["leef", "", "LEAF", "blocks", "mine.txt", "../leaf"])
def test_an_unknown_recipe_is_refused_with_those_there_are(name):
    with pytest.raises(InputError) as caught:
        find(name)
    assert str(caught.value) == (
        f"there is no recipe '{name}'; there is: starter, leaf, digits, xray, cars, skin, or your "
        "own file: sightstream train ./mine.py --data DIR"
    )


def test_an_unknown_network_is_refused_with_those_there_are():
    expected = r"the recipe skin has no network 'resnet'; it has: mlp, cnn, squeezenet$"
    with pytest.raises(InputError, match=expected):
        find("skin", "resnet")


def test_a_recipe_of_one_network_says_that_it_has_no_name():
    with pytest.raises(InputError, match=r"has no network 'cnn'; it has: one only, without a name"):
        find("leaf", "cnn")


# A file of one's own


def test_a_recipe_may_be_a_file(mine):
    recipe = find(mine())
    assert (recipe.name, recipe.preprocessing.shape) == ("mine", (8, 8, 3))
    assert recipe.network(3) == "a network of 3"


def test_a_file_with_the_import_of_before_is_read_with_one_line_that_says_the_new_one(mine):
    old = MINE.replace("sightstream.images.decode", "sightstream.imaging")
    code = f"from training.recipes import find; print([find({mine(old)!r}).name for _ in 'ab'])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stdout == "['mine', 'mine']\n"
    assert done.stderr == (
        "a recipe imports from sightstream.imaging, which has moved; write: "
        "from sightstream.images.decode import Preprocessing\n"
    )


def test_a_file_is_found_by_its_full_path_too(mine, tmp_path):
    mine()
    assert find(str(tmp_path / "mine.py")).name == "mine"


def test_a_file_may_have_networks(mine):
    assert find(mine(), "second").preprocessing.shape == (9, 9, 3)
    with pytest.raises(InputError, match="has no network 'third'; it has: first, second"):
        find(mine(), "third")


def test_a_file_may_take_pieces_of_the_recipes_here(mine):
    text = "from dataclasses import replace\nfrom training.recipes import leaf\n"
    recipe = find(mine(f"{text}RECIPE = replace(leaf.RECIPE, name='mine', epochs=3)\n"))
    assert (recipe.name, recipe.epochs) == ("mine", 3)
    assert recipe.network is find("leaf").network


def test_a_file_is_read_anew_when_it_has_changed(mine):
    assert find(mine(MINE)).name == "mine"
    assert find(mine(MINE.replace('"mine"', '"another"'))).name == "another"


@pytest.mark.parametrize("name", ["./nothing.py", "folder.py"])
def test_a_file_that_is_not_there_is_named(mine, tmp_path, name):
    mine()
    (tmp_path / "folder.py").mkdir()
    with pytest.raises(InputError, match=rf"^there is no recipe file {name.removeprefix('./')}$"):
        find(name)


def test_a_syntax_error_is_told_with_its_line(mine):
    with pytest.raises(InputError, match=r"mine\.py, line 5: .*'\(' was never closed") as caught:
        find(mine(MINE.partition("RECIPE")[0] + "RECIPE = Recipe(\n"))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("RECIPE = Recipe('mine', Preprocessing(0, 8))", "ValueError: height must be an integer"),
        ("RECIPE = Recipe(nome='mine')", "TypeError: .*'nome'"),
        ("import no_such_package", "ModuleNotFoundError: No module named 'no_such_package'"),
        ("size", "NameError: name 'size' is not defined"),
        ("raise SystemExit(3)", "SystemExit: 3"),
        ("RECIPE = Recipe('../mine', Preprocessing(8, 8))", "ValueError: name takes letters"),
        ("RECIPE = Recipe('..', Preprocessing(8, 8))", "ValueError: name takes letters"),
        ("RECIPE = Recipe(3, Preprocessing(8, 8))", "TypeError: "),
        ("RECIPE = Recipe('mine', (8, 8))", "TypeError: preprocessing is a Preprocessing"),
        ("RECIPE = Recipe('mine', Preprocessing(8, 8), epochs=2.5)", "ValueError: epochs must be"),
        ("RECIPE = Recipe('mine', Preprocessing(8, 8), shares=(0, 1, 0))", "ValueError: shares "),
        ("RECIPE = Recipe('mine', Preprocessing(8, 8), shares=(7, 1, 2))", "ValueError: shares "),
        ("RECIPE = Recipe('mine', Preprocessing(8, 8), shares=(0.7, 0.3))", "ValueError: "),
    ],
)
def test_an_error_while_a_file_is_read_is_told_with_its_line(mine, tmp_path, line, told):
    mine(f"{MINE.partition('RECIPE')[0]}{line}\n")
    with pytest.raises(InputError, match=rf"mine\.py, line 5: {told}"):
        find(str(tmp_path / "mine.py"))


def test_the_line_is_told_also_where_the_path_is_relative(mine):
    with pytest.raises(InputError, match=r"mine\.py, line 2: NameError: name 'size'"):
        find(mine("\nsize\n"))


def test_a_syntax_error_in_another_file_is_told_as_that_files(mine, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "pieces_of_mine.py").write_text("\n\n\ndef (:\n")
    with pytest.raises(InputError, match=r"pieces_of_mine\.py, line 4: "):
        find(mine("import pieces_of_mine\n"))


def test_the_line_of_an_error_is_the_files_own_not_that_of_what_it_calls(mine, tmp_path):
    mine("import json\n\ndef shape():\n    return json.loads('nothing')\n\nRECIPE = shape()\n")
    with pytest.raises(InputError, match=r"mine\.py, line 4: JSONDecodeError"):
        find(str(tmp_path / "mine.py"))


@pytest.mark.parametrize("text", ["", "RECIPE = {}\n", "recipe = 1\n", "NETWORKS = {}\n"])
def test_a_file_without_a_recipe_says_what_it_needs(mine, text):
    with pytest.raises(InputError, match=r"mine\.py has no RECIPE = Recipe\(\.\.\.\); see"):
        find(mine(text))


@pytest.mark.parametrize("networks", ["[RECIPE]", "3", "{'first': 3}", "{'first': Preprocessing}"])
def test_networks_that_are_no_recipes_are_told(mine, networks):
    with pytest.raises(InputError, match=r"^the NETWORKS of \./mine\.py are no names with their "):
        find(mine(f"{MINE}\nNETWORKS = {networks}\n"), "first")


@pytest.mark.parametrize(
    ("network", "line"),
    [("lambda labels: labels.nothing", 5), ("int", None)],
    ids=["its own code", "what it calls"],
)
def test_a_mistake_that_shows_in_the_training_is_told_with_its_line(mine, tmp_path, network, line):
    text = f"{MINE.partition('RECIPE')[0]}RECIPE = Recipe('mine', Preprocessing(8, 8), {network})\n"
    recipe = find(mine(text))
    run = SimpleNamespace(
        recipe=recipe, progress=SimpleNamespace(on_step=str),
        options=SimpleNamespace(recipe=str(tmp_path / "mine.py")),
    )  # fmt: skip
    dataset = SimpleNamespace(labels="ab", split=str)
    if line:
        with pytest.raises(InputError, match=rf"mine\.py, line {line}: AttributeError: 'int' obj"):
            learn(run, dataset)
    else:  # a fault of ours stays one
        with pytest.raises(AttributeError):
            learn(run, dataset)


# The learning rate


@pytest.fixture
def rate(monkeypatch):
    """What `cosine` gives Keras, which would take seconds to import."""
    callbacks = ModuleType("keras.callbacks")
    callbacks.LearningRateScheduler = lambda schedule: SimpleNamespace(schedule=schedule)
    monkeypatch.setitem(sys.modules, "keras", ModuleType("keras"))
    monkeypatch.setitem(sys.modules, "keras.callbacks", callbacks)

    def make(epochs, learning_rate=1.0):
        (callback,) = cosine(epochs, learning_rate)
        return [callback.schedule(epoch) for epoch in range(epochs)]

    return make


def test_the_rate_rises_for_a_twentieth_of_the_passes_and_then_falls(rate):
    rates = rate(40)
    assert rates[:3] == pytest.approx([1 / 3, 2 / 3, 1])
    assert rates[2:] == sorted(rates[2:], reverse=True)


def test_the_rate_falls_along_a_cosine_to_nearly_nothing(rate):
    rates = rate(48, 2e-3)
    assert rates[2 + 23] == pytest.approx(1e-3)
    assert rates[-1] == pytest.approx(2e-3 * (1 + cos(pi * 45 / 46)) / 2)
    assert 0 < rates[-1] < 2e-3 / 500


@pytest.mark.parametrize("epochs", [1, 2, 3, 19, 20, 21, 100])
def test_the_rate_is_never_nothing_nor_above_what_was_asked_for(rate, epochs):
    rates = rate(epochs, 0.01)
    assert len(rates) == epochs
    assert all(0 < each <= 0.01 for each in rates)


# What docs/recipes.md says


def documented(language):
    return re.findall(rf"^```{language}\n(.*?)^```$", DOCS, re.MULTILINE | re.DOTALL)


def test_the_documented_file_is_a_recipe(mine):
    (text,) = documented("python")
    recipe = find(mine(text))
    assert recipe.name == "mine"
    assert recipe.preprocessing.shape == (32, 48, 3)


@pytest.mark.parametrize("line", "".join(documented("sh")).splitlines())
def test_the_documented_commands_exist_as_they_are_written(line):
    program, *words = shlex.split(line)
    command = get_command(app)
    while hasattr(command, "commands"):
        command = command.commands[words.pop(0)]
    with command.make_context(program, words) as context:
        assert program == "sightstream"
        assert context.params["home"] is None


def test_all_recipes_and_networks_are_documented():
    table = [line for line in DOCS.splitlines() if line.startswith("| ")]
    assert re.findall(r"^\| `(\w+)`", "\n".join(table), re.MULTILINE) == list(NAMES)
    for _, network in NETWORKS:
        assert any(f"`{network}`" in line for line in table)
