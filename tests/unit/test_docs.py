"""The documentation: its site builds, its links lead somewhere, and it names what exists."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from typer.main import get_command

from sightstream import errors
from sightstream.cli.main import app
from sightstream.config import Settings
from sightstream.tables.schema import ROW
from streaming.observe.definitions import METRICS

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = {
    str(path.relative_to(ROOT)): path.read_text()
    for path in (*ROOT.glob("*.md"), *DOCS.glob("*.md"))
}
FENCED = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def prose(page):
    return FENCED.sub("", PAGES[page])


def rows(page, section):
    """The cells of the table below a heading of a page."""
    (text,) = re.findall(rf"^##+ {section}\n(.*?)(?=^##|\Z)", PAGES[page], re.M | re.S)
    found = re.findall(r"^\| (.*) \|$", text, re.M)
    return [re.split(r" ?\| ?", line) for line in found[1:] if not line.startswith("---")]


def codes(cell):
    return re.findall(r"`([^`]+)`", cell)


# The site


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    folder = tmp_path_factory.mktemp("site")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", folder],
        cwd=ROOT, env=os.environ | {"NO_MKDOCS_2_WARNING": "1"},
        stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=200,
    )  # fmt: skip
    return done, folder


def test_the_site_builds_without_a_warning(site):
    done, folder = site
    assert (done.returncode, done.stdout + done.stderr) == (0, "")
    assert (folder / "search" / "search_index.json").exists()


def test_the_site_loads_nothing_from_elsewhere(site):
    _, folder = site
    loaded = re.compile(
        r"""<(?:script|img|iframe|source)\b[^>]*\bsrc=["']?((?:https?:)?//[^"'\s>]+)"""
        r"""|<link\b(?=[^>]*\brel=["']?(?:stylesheet|preconnect|icon|preload))"""
        r"""[^>]*\bhref=["']?((?:https?:)?//[^"'\s>]+)"""
        r"""|(?:@import|url\()\s*["']?((?:https?:)?//[^"'\s)]+)"""
    )
    for path in (*folder.rglob("*.html"), *folder.rglob("*.css"), *folder.rglob("*.svg")):
        assert loaded.findall(path.read_text()) == [], path


def test_every_page_is_in_the_navigation():
    named = re.findall(r": ([\w-]+\.md)$", (ROOT / "mkdocs.yml").read_text(), re.M)
    assert sorted(named) == sorted(path.name for path in DOCS.glob("*.md"))


# Links outside the site


def anchors(path):
    headings = re.findall(r"^#+ (.+)$", FENCED.sub("", path.read_text()), re.M)
    return {re.sub(r"[^\w -]", "", each.lower()).replace(" ", "-") for each in headings}


@pytest.mark.parametrize("page", [page for page in PAGES if "/" not in page])
def test_links_of_pages_beside_the_code_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)\s]+)\)", prose(page)):
        if target.startswith(("http://", "https://")):
            continue
        name, _, anchor = target.partition("#")
        path = ROOT / (name or page)
        assert path.exists(), target
        assert not anchor or anchor in anchors(path), target


# The code

GENERATED = (
    "benchmarks/results.json",
    "benchmarks/peers/results.",
    "build/",
    "data/",
    "docker/secrets/",
)


@pytest.mark.parametrize("page", PAGES)
def test_files_of_this_repository_that_a_page_names_exist(page):
    folders = "|".join({path.parent.name for path in ROOT.glob("[!.]*/*")})
    for word in codes(prose(page)):
        if re.fullmatch(rf"({folders}|\.ci)/[\w./-]*", word) and not word.startswith(GENERATED):
            assert (ROOT / word).exists(), word


@pytest.mark.parametrize("page", ["docs/security.md", "docs/reliability.md"])
def test_tests_that_a_page_names_exist(page):
    defined = {
        name for path in (ROOT / "tests").rglob("test_*.py")
        for name in re.findall(r"^ *def (test_\w+)", path.read_text(), re.MULTILINE)
    }  # fmt: skip
    named = {word for word in codes(prose(page)) if word.startswith("test_")}
    assert named and named - defined == set()


@pytest.mark.parametrize(
    ("page", "section"),
    [("docs/reliability.md", "One image, one row"), ("docs/reliability.md", "Right or refused"),
     ("docs/security.md", "What comes in")],
)  # fmt: skip
def test_each_promise_names_the_test_that_holds_it(page, section):
    for *promise, tests in rows(page, section):
        assert tests.startswith(("`test_", "`tests/")), promise


@pytest.mark.parametrize("page", PAGES)
def test_metrics_that_a_page_names_exist(page):
    known = {each.full_name for each in METRICS}
    named = {word for word in codes(prose(page)) if word.startswith("sightstream_")}
    assert {each.partition("{")[0] for each in named} <= known


def leaves(command, name="sightstream"):
    if not hasattr(command, "commands"):
        return {name: command}
    found = {}
    for word, each in command.commands.items():
        found |= leaves(each, f"{name} {word}")
    return found


COMMANDS = leaves(get_command(app))


def options(name):
    return {o for each in COMMANDS[name].params for o in (*each.opts, *each.secondary_opts)}


def test_each_command_is_shown_on_a_page_of_the_documentation():
    text = "\n".join(text for page, text in PAGES.items() if page.startswith("docs/"))
    assert [name for name in COMMANDS if name not in text] == []


def shown():
    for page, text in PAGES.items():
        lines = [code for code in codes(prose(page)) if re.match("sightstream [a-z]", code)]
        for _, block in (found for found in FENCED.findall(text) if found[0] == "sh"):
            lines += re.findall(r"^(?:\w+=\S+ )?(?:\S+/)?(sightstream .*)$", block, re.M)
        for line in dict.fromkeys(lines):
            words = shlex.split(line, comments=True)
            yield pytest.param(words, id=f"{page}: {line}")


@pytest.mark.parametrize("words", shown())
def test_the_commands_that_pages_show_exist(words):
    name = next(n for n in (" ".join(words[:3]), " ".join(words[:2])) if n in COMMANDS)
    assert {word for word in words if word.startswith("--")} <= options(name)


def test_each_setting_is_documented_with_its_default():
    table = rows("docs/configuration.md", "All settings")
    documented = {name.strip("`"): value.strip("`") for name, value, _ in table}
    assert documented == {name: default(field) for name, field in Settings.model_fields.items()}


def default(field):
    """A default as the page shows it: a sequence with commas, and nothing where nothing is set."""
    value = getattr(field.default, "get_secret_value", lambda: field.default)()
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return f"{value:g}"
    return ",".join(value) if isinstance(value, tuple) else str(value or (0 if value == 0 else ""))


def test_flags_of_settings_exist():
    for _, _, meaning in rows("docs/configuration.md", "All settings"):
        for flag in re.findall(r"`(--[\w-]+)` of ((?:`\w+`(?:, | and )?)+)", meaning):
            for command in codes(flag[1]):
                assert flag[0] in options(f"sightstream {command}"), command


def test_each_column_of_the_table_is_documented():
    documented = [column for row in rows("docs/rows-out.md", "Columns") for column in codes(row[0])]
    assert documented == ROW.names


def test_each_exit_code_is_documented():
    documented = {int(row[0]) for row in rows("docs/reliability.md", "Exit codes")}
    kinds = (each for each in vars(errors).values() if isinstance(each, type))
    raised = {each.exit_code for each in kinds if issubclass(each, errors.SightstreamError)}
    assert documented == {0} | raised
