"""The README's examples, run as they are written, one after the other in one folder.

The picture of the table in the README: pytest tests/e2e/test_readme.py --screenshots docs
"""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
EXAMPLES = re.findall(
    r"^(\d)\. .*?^```(sh|python)\n(.*?)^```$",
    (ROOT / "README.md").read_text(), re.MULTILINE | re.DOTALL,
)  # fmt: skip
SHELLS = {"sh": ["bash", "-euo", "pipefail", "-c"], "python": [sys.executable, "-c"]}

PICTURE = """
import re
from rich.console import Console
from sightstream import terminal
from sightstream.cli.main import app

sql = '''select original_name, status, label, score, model_version, error_code
                     from predictions order by original_name'''
terminal.out = Console(record=True, width=92, force_terminal=True)
terminal.out.print(f'[green]$[/] sightstream query "{sql}"', soft_wrap=True, highlight=False)
app(["query", sql], standalone_mode=False)
svg = terminal.out.export_svg(title="sightstream", unique_id="table")
# rich's picture asks a server for its font; any monospaced one does.
svg = re.sub(r"@font-face {.*?}\\s*", "", svg, flags=re.DOTALL)
open("table.svg", "w").write(svg + "\\n")
"""


@pytest.fixture(scope="module")
def run(starter, tmp_path_factory):
    """Runs a text in a folder with photos, whose registry has the starter model."""
    here = tmp_path_factory.mktemp("readme")
    for folder in (starter.home / "starter" / "digits").iterdir():
        (photos := here / "photos" / folder.name).mkdir(parents=True)
        shutil.copy(min(folder.iterdir()), photos)
    (here / "photos" / "cut.png").write_bytes(next(photos.iterdir()).read_bytes()[:60])
    clean = {k: v for k, v in os.environ.items() if not k.startswith("SIGHTSTREAM_")}
    environment = clean | {
        "SIGHTSTREAM_REGISTRY_URI": f"sqlite:///{starter.database}",
        "SIGHTSTREAM_METRICS_PORT": "0",
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
    }

    def run(language, text):
        return subprocess.run(
            [*SHELLS[language], text], cwd=here, env=environment,
            stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=200,
        )  # fmt: skip

    run.folder = here
    return run


@pytest.fixture(scope="module")
def examples(run):
    """The examples, as they ended, by their number."""
    return {number: run(language, text) for number, language, text in EXAMPLES}


@pytest.fixture(scope="module")
def outputs(examples):
    return {number: done.stdout for number, done in examples.items()}


@pytest.fixture(scope="module")
def names(run):
    return {photo.name for photo in (run.folder / "photos").rglob("*.png")}


@pytest.mark.parametrize("number", "12345")
def test_an_example_ends_well(examples, number):
    assert examples[number].returncode == 0, examples[number].stderr


def test_the_stream_prints_a_row_for_each_image(outputs, names):
    assert {name: outputs["1"].count(name) for name in names} == dict.fromkeys(names, 1)


def test_sql_answers_with_labels_and_with_what_was_rejected(outputs):
    assert re.search(r"label\W+images\W+avg\(score\)", outputs["2"])
    assert re.search(r"cut\.png.*truncated", outputs["2"])


def test_a_file_is_classified_without_spark(outputs):
    assert outputs["3"].startswith("photos/3/3-0013.png  3 ")
    assert len(re.findall(r"\b[01]\.\d+", outputs["3"])) == 3


def test_the_library_answers_for_a_path_and_for_bytes(outputs):
    path, no_image = outputs["4"].splitlines()
    assert "'3'" in path
    assert "unsupported_format" in no_image


def test_the_table_is_read_without_the_program(outputs, names):
    assert {name for name in names if name in outputs["5"]} == names


def test_the_picture_of_the_table_is_one_of_these_rows(examples, run, names, request):
    assert run("python", PICTURE).returncode == 0
    if target := request.config.getoption("--screenshots"):
        shutil.copyfile(run.folder / "table.svg", Path(target) / "table.svg")
    drawn = (run.folder / "table.svg").read_text()
    shown = (ROOT / "docs" / "table.svg").read_text()
    for name in names:
        assert name in drawn
        assert name in shown
    assert "url(http" not in drawn
