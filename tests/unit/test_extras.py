"""The extras, as the package's metadata declare them."""

import tomllib
from pathlib import Path

from hatchling.builders.wheel import WheelBuilder

from sightstream.cli import extras

ROOT = Path(__file__).parents[2]


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
