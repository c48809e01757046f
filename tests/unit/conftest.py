"""What the unit tests of several modules share."""

import pytest

from sightstream.events import ImageEvent


@pytest.fixture
def manifest(settings):
    """Writes a manifest under a number, with a line for each of these names."""
    settings.manifests.mkdir(parents=True)

    def write(number, *names):
        events = [ImageEvent(f"id of {n}", "folder", f"file:///{n}", n, 1.5, 9) for n in names]
        path = settings.manifests / f"{number:020d}.jsonl"
        aside = path.with_suffix(".new")  # what looks at the folder meanwhile sees all or nothing
        aside.write_text("".join(event.to_line() + "\n" for event in events))
        aside.rename(path)
        return {"manifest": path.name}

    return write
