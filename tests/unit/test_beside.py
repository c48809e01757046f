"""sightstream.scoring.beside: others answer beside the first model, which loses nothing by them."""

import io
import os
import signal
from time import perf_counter
from types import SimpleNamespace

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
    monkeypatch.setattr(beside, "_lost", set())
    yield
    while beside._companions:
        beside._companions.popitem()[1].end()


def asked(*others, images=IMAGES, left_out="", pieces=1, shadows=True):
    """What the first model and the others answer to each image of the last piece."""
    answering = Answering(
        Pickled(model()), Limits(), 3, [(Pickled(each), shadows) for each in others]
    )
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


def started(*others):
    """Has the processes started."""
    for each in others:
        key = udf.identity(each)
        if key not in beside._companions:
            beside._companions[key] = beside.Companion(each, 3, beside.NICE)
    for companion in beside._companions.values():
        companion.started.result(60)


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
def test_a_fault_costs_the_others_nothing_and_the_first_one_a_blink(fault, code):
    healthy, faulty = model(2), model(3, fault=fault)
    started(healthy, faulty)
    begin = perf_counter()
    first, good, bad = asked(healthy, faulty)
    assert first == good == FIRST
    assert bad == [code, code, code, None, None, code]
    assert perf_counter() - begin < 2 * beside.GRACE


def test_scores_that_are_no_numbers_are_no_answer():
    first, other = asked(model(2, fault="nans"))
    assert first == FIRST
    assert other == ["failed" if each is not None else None for each in FIRST]


def test_one_that_failed_is_not_asked_again_in_the_task():
    faulty = model(3, fault="hangs")
    started(faulty)
    begin = perf_counter()
    first, bad = asked(faulty, pieces=50)
    assert (first, bad[0]) == (FIRST, "timeout")
    assert perf_counter() - begin < 2 * beside.GRACE


def test_one_that_rests_is_not_asked_nor_started():
    first, healthy, faulty = asked(model(2), model(3, fault="hangs"), left_out="[1]")
    assert first == healthy == FIRST
    assert faulty == ["skipped", "skipped", "skipped", None, None, "skipped"]
    assert len(beside._companions) == 1


def test_its_process_gives_way_to_the_first_models():
    asked(model(2))
    (companion,) = beside._companions.values()
    ours, its = (
        os.getpriority(os.PRIO_PROCESS, pid) for pid in (0, companion._child._running[0].pid)
    )
    assert its == min(19, ours + beside.NICE)


def test_one_whose_process_is_killed_is_started_again_and_not_waited_for():
    asked(model(2))
    (companion,) = beside._companions.values()
    os.kill(companion._child._running[0].pid, signal.SIGKILL)
    assert asked(model(2))[1][:2] == ["crashed", "crashed"]
    begin = perf_counter()
    assert asked(model(2))[1][0] == "skipped"
    assert perf_counter() - begin < 2 * beside.GRACE
    started(model(2))
    assert asked(model(2))[1] == FIRST


def test_one_that_does_not_load_is_none():
    broken = ServedModel("tiny", 9, tiny_model.LABELS, Preprocessing(8, 8), "onnx", b"broken")
    assert asked(broken)[1][0] == "failed"


def test_those_that_are_not_in_the_lineup_any_more_end():
    asked(model(2), model(3))
    processes = [each._child._running[0] for each in beside._companions.values()]
    asked(model(3))
    assert len(beside._companions) == 1
    processes[0].join(10)
    assert [each.is_alive() for each in processes] == [False, True]


def test_a_slow_one_gets_as_many_images_as_its_share_of_time_lasts_for(monkeypatch):
    monkeypatch.setattr(beside, "SHARE", 0.0)
    images = [picture(b) for b in (250, 5)] * 100
    usually(model(2), beside.FLOOR / 50)
    first, other = asked(model(2), images=images)
    assert first == [0, 1] * 100
    answered = [each for each in other if each != "skipped"]
    assert 0 < len(answered) < 100
    assert answered == first[: len(answered)]


@pytest.mark.parametrize("side", [8, 16])
def test_one_that_is_no_shadow_gets_all_images(monkeypatch, side):
    monkeypatch.setattr(beside, "SHARE", 0.0)
    images = [picture(b) for b in (250, 5)] * 100
    usually(model(2, side=side), 10.0)
    assert asked(model(2, side=side), images=images, shadows=False)[1] == [0, 1] * 100


def test_no_image_is_decoded_for_a_shadow_that_has_no_time_left(monkeypatch):
    monkeypatch.setattr(beside, "SHARE", 0.0)
    seen, decode = [], beside.decode
    monkeypatch.setattr(beside, "decode", lambda *given: seen.append(1) or decode(*given))
    usually(model(2, side=16), 10.0)
    images = [picture(b) for b in (250, 5)] * 100
    assert asked(model(2, side=16), images=images)[1] == ["skipped"] * 200
    assert 1 <= len(seen) <= 10  # one of each chunk


def test_one_that_is_no_shadow_has_the_first_models_priority():
    asked(model(2), shadows=False)
    (companion,) = beside._companions.values()
    ours, its = (
        os.getpriority(os.PRIO_PROCESS, pid) for pid in (0, companion._child._running[0].pid)
    )
    assert its == ours


def test_one_that_is_too_slow_for_any_image_gets_one_of_a_rare_task(monkeypatch):
    monkeypatch.setattr(beside, "SHARE", 0.0)
    monkeypatch.setattr(beside, "RARELY", 10)
    for _ in range(9):
        usually(model(2), 2 * beside.FLOOR)
        assert asked(model(2))[1][:3] == ["skipped"] * 3
    assert asked(model(2))[1][:3] == [0, "skipped", "skipped"]
    for _ in range(20):  # it was not slow at all
        found = asked(model(2))[1]
    assert found == FIRST


def test_a_call_that_other_work_held_up_costs_it_no_image():
    started(model(2))
    (companion,) = beside._companions.values()
    companion._took.append(10.0)
    assert asked(model(2))[1] == FIRST


@pytest.mark.parametrize("channels", [1, 3])
def test_a_process_is_ready_with_an_image_that_its_model_takes(channels):
    shapes = []

    def load():
        return lambda pixels: shapes.append(pixels.shape) or np.ones((len(pixels), 2), np.float32)

    made = SimpleNamespace(
        load=load, labels=("a", "b"), preprocessing=Preprocessing(8, 6, channels=channels)
    )
    assert beside.Engine(made, 3).ready() > 0
    assert set(shapes) == {(1, 8, 6, channels)}


def test_one_that_drags_on_is_soon_asked_rarely():
    faulty = model(3, fault="drags")
    started(faulty)
    for _ in range(5):
        asked(faulty)
    begin = perf_counter()
    for _ in range(20):
        assert asked(faulty)[0] == FIRST
    assert perf_counter() - begin < 20 * beside.FLOOR


def usually(each, seconds):
    """Has it taken so many seconds for an image, as far as is known."""
    started(each)
    (companion,) = beside._companions.values()
    companion._took.clear()
    companion._took.append(seconds)


def test_a_model_of_other_labels_is_among_them():
    pests = model(2, labels=("mite", "aphid"), means=(255.0, 0.0))
    assert asked(pests)[1] == [0, 1, 0, None, None, 1]


def test_best_is_in_order_and_stable():
    classes, scores = beside.best(np.array([[0.2, 0.4, 0.4]], np.float32), 2)
    assert classes.tolist() == [[1, 2]]
    assert scores[0].tolist() == pytest.approx([0.4, 0.4])
