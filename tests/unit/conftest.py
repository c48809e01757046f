"""What the unit tests of several modules share."""

from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pytest

from sightstream.cli import doctor
from sightstream.images.event import ImageEvent
from sightstream.tables.predictions import Predictions
from sightstream.tables.schema import EVENT, ROW
from streaming.folder.manifests import write


@pytest.fixture
def manifest(settings):
    """Writes a manifest under a number, with an event for each of these names."""
    settings.manifests.mkdir(parents=True)

    def made(number, *names, **changes):
        fields = {"event_time": 1.5, "bytes": 9, **changes}
        events = [ImageEvent(f"id of {n}", "folder", f"day/{n}", n, **fields) for n in names]
        path = settings.manifests / f"{number:020d}.arrow"
        aside = path.with_suffix(".new")  # what looks at the folder meanwhile sees all or nothing
        write(aside, pa.Table.from_pylist([vars(event) for event in events], EVENT))
        aside.rename(path)
        return {"manifest": path.name}

    return made


@pytest.fixture
def look(settings):
    """Answers with the check of one name; `flags` are settings of its own."""

    def run(name, **flags):
        chosen = settings.model_copy(update=flags)
        return next(c for c in doctor.checks(chosen) if c.name == name)

    return run


@pytest.fixture
def package(tmp_path, monkeypatch):
    """Installs no more of a package than its name and version."""

    def install(name, version):
        info = tmp_path / "site" / f"{name.replace('-', '_')}-{version}.dist-info"
        info.mkdir(parents=True)
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        monkeypatch.syspath_prepend(tmp_path / "site")

    return install


@pytest.fixture
def table(settings):
    """The folder of a predictions table with one row."""
    row = {"event_id": "1", "source": "folder", "status": "ok", "label": "7"}
    now = datetime(2026, 5, 1, tzinfo=UTC)
    row |= {"processed_at": now, "date": now.date()}
    Predictions(settings.predictions).append(pa.Table.from_pylist([row], ROW), "app", 0)
    return Path(settings.predictions)


WEIRD_NAMES = [
    "plain.jpg", "with space.jpg", "a\nb.jpg", "a\rb\tc", 'quo"te\\', "50%20off.jpg", "{x}:{y}",
    "naïve-日本語-🐈.png", "sep\u2028para\u2029next\x85.jpg", "\x00\x1f\x7f", "a/b/c.jpg", "",
    "\\xff", "e\u0301 and \u00e9",
]  # fmt: skip


@pytest.fixture(params=WEIRD_NAMES)
def weird_name(request):
    """The name of an image, as it must not be taken for granted."""
    return request.param
