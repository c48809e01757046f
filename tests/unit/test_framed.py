"""sightstream.scoring.framed: the frames of a file become events of one piece."""

from dataclasses import replace

import pyarrow as pa

from sightstream.images.frames import Framed
from sightstream.images.limits import Limits, Rejected
from sightstream.models.version import ServedModel
from sightstream.runtime.spark import PIECE
from sightstream.scoring import retry
from sightstream.scoring.framed import framed, further
from sightstream.scoring.udf import Answering, Pickled, table
from sightstream.tables.schema import EVENT
from tests import tiny_model
from tests.dicoms import dataset, saved, stack

STACK = stack(5)
EACH = replace(tiny_model.PREPROCESSING, frame="each")


def events(*ids):
    empty = [None] * len(ids)
    columns = [ids, ["folder"] * len(ids), ids, ids, [1.0] * len(ids), [9] * len(ids), empty, empty]
    return pa.table(dict(zip(EVENT.names, columns, strict=True)), EVENT)


def model(preprocessing=EACH):
    content = tiny_model.onnx_bytes()
    return ServedModel("tiny", 1, tiny_model.LABELS, preprocessing, "onnx", content)


def test_the_first_frame_keeps_the_id_and_all_keep_the_rest():
    gone = Rejected("not_found", "")
    images = ["a.dcm", "b.png", None, gone]
    ((found, shown),) = framed([(events("a", "b", "c", "d"), images)], {"a.dcm": 3, "b.png": 1}.get)
    assert found.schema == EVENT
    assert found["event_id"].to_pylist() == ["a", "a#frame=2", "a#frame=3", "b", "c", "d"]
    assert found["uri"].to_pylist() == ["a", "a", "a", "b", "c", "d"]
    assert shown == [*(Framed("a.dcm", n) for n in (1, 2, 3)), "b.png", None, gone]


def test_pieces_stay_small_and_hold_whole_files():
    names = [str(n) for n in range(30)]
    found = list(framed([(events(*names), names)], lambda _: 100))
    assert [len(each) for each, _ in found] == [1100, 1100, 800]
    assert all(len(each) < 2 * PIECE and len(each) == len(shown) for each, shown in found)
    uris = [uri for each, _ in found for uri in each["uri"].to_pylist()]
    assert uris == [name for name in names for _ in range(100)]
    assert list(framed([(events(), [])], lambda _: 100)) == []


def test_a_model_that_sees_one_frame_leaves_pieces_as_they_are():
    piece = events("a"), [saved(dataset(STACK, frames=5))]
    seen = Answering(Pickled(model(tiny_model.PREPROCESSING)), Limits(), 3).framed(iter([piece]))
    assert list(seen) == [piece]


def test_each_frame_is_answered_for_by_a_worker_and_alone():
    """Of the frames the k-th has k white pixels of 24."""
    piece = events("a", "b"), [saved(dataset(STACK, frames=5)), saved(dataset(STACK[0]))]
    answering = Answering(Pickled(model()), Limits(), 3)
    ((found, images),) = answering.framed(iter([piece]))
    answers = answering.answers(images)
    assert [each.frame for each in answers] == [1, 2, 3, 4, 5, None]
    means = [each.brightness for each in answers]
    assert means[:5] == sorted(set(means[:5]))
    assert means[5] == means[0]
    assert {(each.format, each.width, each.height) for each in answers} == {("DICOM", 6, 4)}
    assert further(table(answers)) == 4

    ((again, alone),) = retry.answered([piece], model(), Limits(), 3)
    assert again == found
    assert [(a.frame, a.brightness, a.classes) for a in alone] == [
        (a.frame, a.brightness, a.classes) for a in answers
    ]
