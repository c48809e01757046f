"""sightstream.scoring.beside: others answer beside the first model, which loses nothing by them."""

import io
import os
import signal
from time import perf_counter

import numpy as np
import pytest
from PIL import Image

from sightstream.images.decode import Preprocessing
from sightstream.images.limits import Limits
from sightstream.models.version import ServedModel
from sightstream.scoring import beside, udf
from sightstream.scoring.udf import Answering, Pickled
from tests import tiny_model


def model(version=1, side=8, labels=tiny_model.LABELS, **network):
    return ServedModel(
        "tiny", version, labels, Preprocessing(side, side), "onnx",
        tiny_model.onnx_bytes(side, **network),
    )  # fmt: skip


def picture(brightness):
    file = io.BytesIO()
    Image.new("RGB", (32, 24), (brightness,) * 3).save(file, "PNG")
    return file.getvalue()


IMAGES = [picture(b) for b in (250, 5, 130)] + [b"no image", None, picture(3)]
FIRST = [0, 1, 2, None, None, 1]


@pytest.fixture(autouse=True)
def alone(monkeypatch):
    monkeypatch.setattr(udf, "_loaded", {})
    yield
    while beside._seconds:
        beside._seconds.popitem()[1].end()


def asked(*others, images=IMAGES, left_out="", pieces=1):
    """What the first model and the others answer to each image of the last piece."""
    answering = Answering(Pickled(model()), Limits(), 3, [Pickled(each) for each in others])
    task = answering.beside(left_out)
    for _ in range(pieces):
        answers = answering.answers(images, task)
        table = task.table(answers)
    best = [each.classes and each.classes[0] for each in answers]
    found = [
        [row["fault"] or (row["classes"] and row["classes"][0]) for row in rows]
        for rows in (
            table.slice(n * len(images), len(images)).to_pylist() for n in range(len(others))
        )
    ]
    return best, *found


def test_each_answers_for_each_image_that_the_first_one_can_take():
    turned = model(2, means=(0.0, 255.0, 128.0))
    first, same, other = asked(model(3), turned)
    assert first == same == FIRST
    assert other == [1, 0, 2, None, None, 0]


def test_other_pixels_are_decoded_from_the_same_content():
    first, larger, grown = asked(model(2, side=16), model(3, side=16))
    assert first == larger == grown == FIRST


def test_many_images_in_chunks_and_pieces():
    images = [picture(b) for b in (250, 5)] * 100
    first, other = asked(model(2), images=images, pieces=3)
    assert first == other == [0, 1] * 100


@pytest.mark.parametrize(("fault", "code"), [("raises", "failed"), ("eats", "failed"),
                                             ("hangs", "timeout")])  # fmt: skip
def test_a_fault_costs_the_others_nothing_and_the_first_one_a_second(fault, code):
    healthy, faulty = model(2), model(3, fault=fault)
    asked(healthy)
    begin = perf_counter()
    first, good, bad = asked(healthy, faulty)
    assert first == good == FIRST
    assert bad == [code, code, code, None, None, code]
    assert perf_counter() - begin < beside.PATIENCE


def test_one_that_failed_is_not_asked_again_in_the_task():
    begin = perf_counter()
    first, bad = asked(model(3, fault="hangs"), pieces=50)
    assert (first, bad[0]) == (FIRST, "timeout")
    assert perf_counter() - begin < beside.PATIENCE + beside.FLOOR


def test_one_that_is_paused_is_not_asked_nor_started():
    first, healthy, faulty = asked(model(2), model(3, fault="hangs"), left_out='{"1": "paused"}')
    assert first == healthy == FIRST
    assert faulty == ["paused", "paused", "paused", None, None, "paused"]
    assert len(beside._seconds) == 1


def test_one_on_trial_is_not_waited_for_while_it_starts():
    trial = '{"0": "trial"}'
    assert asked(model(2), left_out=trial)[1][0] == "paused"
    (second,) = beside._seconds.values()
    second.started.result(60)
    assert asked(model(2), left_out=trial)[1] == FIRST


def test_one_whose_process_is_killed_is_started_again_by_the_next_task():
    asked(model(2))
    (second,) = beside._seconds.values()
    os.kill(second._child._running[0].pid, signal.SIGKILL)
    assert asked(model(2))[1][:2] == ["crashed", "crashed"]
    assert asked(model(2))[1] == FIRST


def test_one_that_does_not_load_is_none():
    broken = ServedModel("tiny", 9, tiny_model.LABELS, Preprocessing(8, 8), "onnx", b"broken")
    assert asked(broken)[1][0] == "failed"


def test_those_that_are_not_in_the_lineup_any_more_end():
    asked(model(2), model(3))
    processes = [each._child._running[0] for each in beside._seconds.values()]
    asked(model(3))
    assert len(beside._seconds) == 1
    processes[0].join(10)
    assert [each.is_alive() for each in processes] == [False, True]


def test_a_slow_one_has_its_share_of_time(monkeypatch):
    monkeypatch.setattr(beside, "FLOOR", 0.0)
    monkeypatch.setattr(beside, "SHARE", 0.0)
    images = [picture(b) for b in (250, 5)] * 100
    first, other = asked(model(2), images=images)
    assert first == [0, 1] * 100
    assert other[-1] == "timeout"


def test_a_model_of_other_labels_is_among_them():
    pests = model(2, labels=("mite", "aphid"), means=(255.0, 0.0))
    assert asked(pests)[1] == [0, 1, 0, None, None, 1]


def test_best_is_in_order_and_stable():
    classes, scores = beside.best(np.array([[0.2, 0.4, 0.4]], np.float32), 2)
    assert classes.tolist() == [[1, 2]]
    assert scores[0].tolist() == pytest.approx([0.4, 0.4])
