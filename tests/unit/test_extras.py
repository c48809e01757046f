"""The extras, as the package's metadata declare them."""

import sys
import tomllib
from pathlib import Path

from hatchling.builders.wheel import WheelBuilder

from sightstream.cli import extras

ROOT = Path(__file__).parents[2]


def test_a_missing_strict_decoder_is_told_with_what_installs_it(monkeypatch, capsys):
    extras.tell_of_decoder()
    assert not capsys.readouterr().err
    monkeypatch.setattr(extras, "installed", lambda name: "")
    monkeypatch.setattr(extras, "find_spec", lambda name: None)
    extras.tell_of_decoder()
    (said,) = capsys.readouterr().err.splitlines()
    cure = f"uv pip install --python {sys.executable} 'simplejpeg<2,>=1.9'"
    assert said.startswith("simplejpeg is not installed: a damaged JPEG may be classified")
    assert said.endswith(cure)


def test_the_extras_are_those_that_the_project_declares(tmp_path, monkeypatch):
    # An environment may have been made before an extra was added.
    builder = WheelBuilder(str(ROOT))
    info = tmp_path / "sightstream-0.1.0.dist-info"
    info.mkdir()
    info.joinpath("METADATA").write_text(builder.config.core_metadata_constructor(builder.metadata))
    monkeypatch.syspath_prepend(tmp_path)
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert extras.names() == sorted(declared["optional-dependencies"].keys() - {"all"})
    assert [each.name for each in extras.requirements("registry")] == ["mlflow"]
