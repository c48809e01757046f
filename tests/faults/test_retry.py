"""sightstream.scoring.retry: an image that ends its process or takes too long is rejected."""

import shutil
from contextlib import suppress
from threading import Event, Thread

import psutil
import pytest
from PIL import Image

from sightstream.errors import ModelDamagedError
from sightstream.images.limits import DEFAULT_LIMITS, Limits
from sightstream.models.registry import Registry
from sightstream.models.version import ServedModel
from sightstream.scoring import retry
from tests import tiny_model


@pytest.fixture(scope="module")
def model(new_home):
    registry = Registry(new_home().settings.registry_address)
    return registry.load(registry.version("starter"))


@pytest.fixture
def digits(starter, tmp_path):
    found = []
    for digit in starter.digits[:4]:
        found.append(str(tmp_path / digit.name))
        shutil.copyfile(digit, found[-1])
    return found


@pytest.fixture
def slow(tmp_path):
    """An image of 49 million pixels of noise, allowed and slow to decode."""
    path = tmp_path / "slow.png"
    Image.effect_noise((7000, 7000), 90).save(path, compress_level=1)
    return str(path)


@pytest.fixture
def children():
    """Tells the processes that classify; neither multiprocessing's tracker nor other tests'."""
    before = {*psutil.Process().children()}
    return lambda: _classifying({*psutil.Process().children()} - before)


def _classifying(processes):
    found = []
    for each in processes:
        with suppress(psutil.Error):
            if "spawn_main" in " ".join(each.cmdline()):
                found.append(each)
    return found


def alone(images, model, limits=DEFAULT_LIMITS):
    ((_, answers),) = retry.answered([(None, images)], model, limits, 3)
    return answers


def codes(answers):
    return [answer.error_code for answer in answers]


def test_good_images_are_classified_and_the_child_is_gone(model, digits, children):
    answers = alone(digits, model)
    assert codes(answers) == [None] * 4
    assert {len(answer.scores) for answer in answers} == {3}
    assert children() == []


def test_a_child_killed_at_work_costs_its_image_and_no_other(model, digits, slow, children):
    stop = Event()

    def kill():
        while not stop.wait(0.01):
            for child in children():
                with suppress(psutil.Error):
                    if large(child):
                        child.kill()
                        return

    killer = Thread(target=kill)
    killer.start()
    limits = Limits(max_bytes=2**30)
    answers = alone([*digits[:2], slow, *digits[2:]], model, limits)
    stop.set()
    killer.join()
    assert codes(answers) == [None, None, "crashed", None, None]
    assert answers[2].error_detail == "It ended the process that classified it (code -9)."
    assert children() == []


def large(process):
    """Whether it holds an image of 49 million pixels, of 45 MB; a child at rest has 110 MB."""
    return process.memory_info().rss > 160 * 2**20


def test_an_image_that_takes_too_long_is_rejected(model, slow, children):
    answers = alone([slow, slow], model, Limits(max_bytes=2**30, seconds=0.05))
    assert codes(answers) == ["timeout", "timeout"]
    assert answers[0].error_detail == "It was not classified within 0.05 seconds."
    assert children() == []


def test_bad_images_are_told_as_ever(model, digits, tmp_path):
    empty = tmp_path / "empty.jpg"
    empty.touch()
    answers = alone([str(empty), digits[0], "/no/such.jpg"], model)
    assert codes(answers) == ["empty", None, "not_found"]


def faulty(fault):
    """A model that has a fault for all images but grey ones."""
    content = tiny_model.onnx_bytes(fault=fault)
    return ServedModel("tiny", 1, tiny_model.LABELS, tiny_model.PREPROCESSING, "onnx", content)


def pictures(folder, *brightness):
    return [
        str(tiny_model.photograph(folder / f"{number}.png", each))
        for number, each in enumerate(brightness)
    ]


def test_a_model_that_fails_on_image_after_image_is_to_blame_itself(tmp_path, children):
    images = pictures(tmp_path, *[250] * retry.IN_A_ROW)
    assert codes(alone(images[1:], faulty("raises"))) == ["crashed"] * (retry.IN_A_ROW - 1)
    with pytest.raises(ModelDamagedError, match="tiny version 1 failed on 8 images in a row"):
        alone(images, faulty("raises"))
    assert children() == []


def test_an_answer_in_between_clears_a_model(tmp_path):
    images = pictures(tmp_path, *[250] * 7, 128, *[250] * 7)
    assert codes(alone(images, faulty("nans"))) == ["no_answer"] * 7 + [None] + ["no_answer"] * 7
    found = codes(alone(images, faulty("raises")))
    assert found == ["crashed"] * 7 + [None] + ["crashed"] * 7


def test_a_model_that_hangs_is_ended_in_time_and_its_start_does_not_count(tmp_path):
    answers = alone(pictures(tmp_path, 250, 128), faulty("hangs"), Limits(seconds=0.5))
    assert codes(answers) == ["timeout", None]


def test_a_model_that_hangs_on_everything_is_to_blame_soon(tmp_path, monkeypatch):
    monkeypatch.setattr(retry, "HASTE", 0.2)
    images, given, ask = pictures(tmp_path, *[250] * retry.IN_A_ROW), [], retry.Child.ask

    def told(child, method, *arguments, seconds):
        given.append((method, seconds))
        return ask(child, method, *arguments, seconds=seconds)

    monkeypatch.setattr(retry.Child, "ask", told)
    with pytest.raises(ModelDamagedError, match=r"8 images in a row, .* within 0\.2 seconds"):
        alone(images, faulty("hangs"), Limits(seconds=4.0))
    times = [seconds for method, seconds in given if method == "predict"]
    assert times == [4.0, 4.0] + [0.2] * (retry.IN_A_ROW - 2)


def test_a_model_that_hangs_on_a_grey_image_too_is_to_blame_at_once(tmp_path):
    images = pictures(tmp_path, 250, 250, 128)
    content = tiny_model.onnx_bytes(fault="hangs", grey=1.0)
    model = ServedModel("tiny", 1, tiny_model.LABELS, tiny_model.PREPROCESSING, "onnx", content)
    with pytest.raises(ModelDamagedError, match="failed on 2 images in a row"):
        alone(images, model, Limits(seconds=0.5))


def test_no_image_is_rejected_that_had_less_than_its_time(tmp_path, monkeypatch):
    monkeypatch.setattr(retry, "HASTE", 0.02)
    images = pictures(tmp_path, 250, 128, 250)
    doubted = retry._Alone(faulty("drags"), Limits(seconds=60.0), 3)
    doubted._failed = retry.DOUBTED
    started, start = [], doubted._child._start
    monkeypatch.setattr(doubted._child, "_start", lambda: started.append(1) or start())
    try:
        assert codes(doubted.answers(images)) == [None] * 3
    finally:
        doubted.end()
    assert len(started) == 2  # the first image ended its process in haste


def test_a_model_that_does_not_load_is_no_fault_of_an_image(digits, children):
    broken = ServedModel("tiny", 1, ("a",), tiny_model.PREPROCESSING, "onnx", b"no graph")
    with pytest.raises(RuntimeError):
        alone(digits, broken)
    assert children() == []
