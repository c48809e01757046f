"""A cluster that is not there, or not fit, is told before Spark tries for minutes."""

import pickle
import socket

import pandas as pd
import pyarrow as pa
import pytest

from sightstream.errors import EnvironmentUnfitError
from sightstream.images.event import ImageEvent
from sightstream.runtime import cluster
from sightstream.tables.schema import EVENT
from streaming.folder.assignment import AssignedImages, Assignment
from streaming.folder.manifests import write


def test_a_master_that_listens_is_enough_among_several():
    with socket.create_server(("127.0.0.1", 0)) as server:
        there = server.getsockname()[1]
        cluster.require_master(f"spark://127.0.0.1:1,127.0.0.1:{there}")


@pytest.mark.parametrize(
    "address",
    ["127.0.0.1:1", "127.0.0.1:none", "127.0.0.1:99999", "127.0.0.1", "nowhere.invalid:7"],
)
def test_a_master_that_does_not_answer_is_named(address):
    with pytest.raises(EnvironmentUnfitError, match="no Spark master answers") as error:
        cluster.require_master(f"spark://{address}")
    assert address in str(error.value)


@pytest.mark.parametrize("master", ["local[2]", "yarn", "k8s://https://127.0.0.1:1"])
def test_only_a_standalone_master_is_asked(master):
    cluster.require_master(master)


def test_a_worker_without_the_folder_rejects_no_image(tmp_path):
    manifest = tmp_path / "manifests" / f"{1:020d}.arrow"
    event = ImageEvent("id", "folder", "day/a.png", "a.png", 1.5, 9)
    manifest.parent.mkdir()
    write(manifest, pa.Table.from_pylist([vars(event)], EVENT))
    shares = pickle.loads(pickle.dumps(AssignedImages(tmp_path / "images", manifest.parent)))
    assignment = Assignment({}, {"manifest": manifest.name}, 1, 1)
    task = pd.DataFrame({"id": [0]}), assignment.text()
    with pytest.raises(FileNotFoundError, match=r"does not see .*images"):
        list(shares(*task))
    (tmp_path / "images").mkdir()
    ((_, images),) = shares(*task)
    assert images == [str(tmp_path / "images/day/a.png")]
    write(manifest, EVENT.empty_table())
    with pytest.raises(OSError, match="sees 0 of 1 events"):
        list(shares(*task))
    manifest.write_text("")  # as a file server may show it for a moment
    with pytest.raises(ValueError, match="cut short"):
        list(shares(*task))
    manifest.unlink()
    manifest.parent.rmdir()
    with pytest.raises(FileNotFoundError, match=r"does not see .*manifests"):
        list(shares(*task))
