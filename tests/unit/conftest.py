"""What the unit tests of several modules share."""

import pyarrow as pa
import pytest

from sightstream.images.event import ImageEvent
from sightstream.tables.schema import EVENT
from streaming.folder.manifests import write


@pytest.fixture
def manifest(settings):
    """Writes a manifest under a number, with an event for each of these names."""
    settings.manifests.mkdir(parents=True)

    def made(number, *names, **changes):
        fields = {"event_time": 1.5, "bytes": 9, **changes}
        events = [ImageEvent(f"id of {n}", "folder", f"file:///{n}", n, **fields) for n in names]
        path = settings.manifests / f"{number:020d}.arrow"
        aside = path.with_suffix(".new")  # what looks at the folder meanwhile sees all or nothing
        write(aside, pa.Table.from_pylist([vars(event) for event in events], EVENT))
        aside.rename(path)
        return {"manifest": path.name}

    return made


WEIRD_NAMES = [
    "plain.jpg", "with space.jpg", "a\nb.jpg", "a\rb\tc", 'quo"te\\', "50%20off.jpg", "{x}:{y}",
    "naïve-日本語-🐈.png", "sep\u2028para\u2029next\x85.jpg", "\x00\x1f\x7f", "a/b/c.jpg", "",
    "\\xff", "e\u0301 and \u00e9",
]  # fmt: skip


@pytest.fixture(params=WEIRD_NAMES)
def weird_name(request):
    """The name of an image, as it must not be taken for granted."""
    return request.param
