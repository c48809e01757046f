"""The command `models import`, from a file to what `predict` and `models show` answer."""

import json
import os
import subprocess
import sys
from contextlib import suppress
from threading import Event, Thread

import psutil
import pytest
from PIL import Image

from sightstream.errors import InputError
from sightstream.images.decode import Preprocessing
from sightstream.models.bring import photographs
from sightstream.models.bring.bring import Wish
from sightstream.models.engines import FASTER
from sightstream.models.registry import Registry
from tests import tiny_model
from tests.foreign import save
from training import bring
from training.bring import import_model

GIVEN = ("--name", "mine", "--labels", "a,b,c,d", "--scale", "0..1")


def sightstream(home, *arguments):
    done = subprocess.run(
        [sys.executable, "-m", "sightstream", *map(str, arguments), "--home", str(home)],
        capture_output=True, text=True, timeout=300, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    return done.returncode, done.stdout, done.stderr


@pytest.fixture
def classes(tmp_path):
    """A folder of classes, of which the network knows all, with real images."""
    for number, image in enumerate(photographs.crops(12)):
        path = tmp_path / "data" / "abc"[number % 3] / f"{number}.bmp"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(image)
    return tmp_path / "data"


def test_a_file_is_imported_promoted_and_served(tmp_path, settings):
    path, home = save(tmp_path / "m"), settings.root
    code, out, err = sightstream(home, "models", "import", path, *GIVEN, "--promote", "--json")
    assert (code, json.loads(out)["promoted"]) == (0, True), err
    assert json.loads(out)["origin"]["largest_difference"] < 1e-5
    code, out, _ = sightstream(home, "models", "show", "mine")
    assert code == 0
    assert "0..1, from --scale" in out
    assert "nan" not in sightstream(home, "models", "list")[1]
    Image.new("RGB", (30, 30), "red").save(tmp_path / "red.png")
    code, out, _ = sightstream(home, "predict", tmp_path / "red.png", "--json")
    assert code == 0
    assert json.loads(out)[0]["top"][0]["label"] in "abcd"


def test_many_labels_leave_room_for_the_origin(tmp_path, settings):
    names, scale = ",".join(f"label-{n}" for n in range(400)), ("--scale", "0..1")
    path = save(tmp_path / "m", outputs=400)
    import_it = ("models", "import", path, "--name", "many", "--labels", names, *scale)
    code, out, err = sightstream(settings.root, *import_it)
    assert (code, out) == (0, ""), err
    assert "many version 1 is the challenger (not evaluated: no --data)" in " ".join(err.split())
    code, out, _ = sightstream(settings.root, "models", "show", "many", 1)
    assert (code, "(400; all: --json)" in out, "label-20" in out) == (0, True, False)
    code, out, _ = sightstream(settings.root, "models", "show", "many", 1, "--json")
    assert len(json.loads(out)["labels"]) == 400


def test_what_is_missing_is_asked_for_in_one_line(tmp_path, settings):
    arguments = ("models", "import", save(tmp_path / "m"), "--name", "mine", "--labels", "a,b,c,d")
    code, out, err = sightstream(settings.root, *arguments)
    assert (code, out) == (2, "")
    assert "give --scale, one of 0..255, 0..1, -1..1, imagenet, caffe" in err
    assert "Traceback" not in err
    assert not Registry(settings.registry_address).names()


def test_data_evaluates_and_makes_the_reference(tmp_path, settings, classes):
    arguments = ("models", "import", save(tmp_path / "m"), *GIVEN, "--data", classes, "--promote")
    code, out, err = sightstream(settings.root, *arguments, "--json")
    assert code == 0, err
    told = json.loads(out)
    assert told["metrics"]["test_images"] == 12
    assert told["origin"]["compared_on"] == "12 images of --data"
    registry = Registry(settings.registry_address)
    card = registry.card(registry.version("mine"))
    assert card.reference is not None
    with registry.report(registry.version("mine")) as report:
        assert (report / "report.html").exists()
    # The same again is not worse; its own alias moves on.
    assert sightstream(settings.root, *arguments)[0] == 0
    assert registry.version("mine").number == 2


def test_a_faster_engine_is_looked_for_on_images_that_scale_nothing(tmp_path, settings, classes):
    home = settings.root
    command = ("models", "import", save(tmp_path / "m"), *GIVEN, "--optimise")
    code, _, err = sightstream(home, *command)
    assert (code, err.count("\n")) == (2, 1)
    assert "give them with --data" in err
    code, _, err = sightstream(home, *command, "--data", classes)
    assert code == 2
    assert "128 images" in err
    assert "it has 12" in err
    assert not Registry(settings.registry_address).names()
    for number, image in enumerate(photographs.crops(260)):
        (classes / "abc"[number % 3] / f"more-{number}.bmp").write_bytes(image)
    code, out, err = sightstream(home, *command, "--data", classes, "--json")
    assert code == 0, err
    told = json.loads(out)
    assert told["optimised"] in ("no", *FASTER)
    for engine in FASTER:
        assert f"{engine}: " in told["optimised_tried"]
    assert "times as fast" in told["optimised_tried"]
    code, out, _ = sightstream(home, "models", "show", "mine", 1)
    assert "times as fast" in " ".join(out.split())


def test_data_with_a_class_that_the_model_does_not_know_is_refused(tmp_path, settings, classes):
    (classes / "a").rename(classes / "zebra")
    arguments = ("models", "import", save(tmp_path / "m"), *GIVEN, "--data", classes)
    code, _, err = sightstream(settings.root, *arguments)
    assert code == 2
    assert "does not know the class(es) zebra" in err
    assert not Registry(settings.registry_address).names()


def test_an_imported_model_that_sees_the_centre_is_evaluated_and_not_refreshed(
    tmp_path, settings, classes
):
    """Its crop is part of every way to its answers: import, `evaluate`, `predict`."""
    folder, home = save(tmp_path / "hf").parent, settings.root
    names = {"id2label": dict(enumerate("abcd"))}
    (folder / "config.json").write_text(json.dumps(names))
    told = {"size": {"shortest_edge": 32}, "crop_size": {"height": 16, "width": 20},
            "do_center_crop": True}  # fmt: skip
    (folder / "preprocessor_config.json").write_text(json.dumps(told))
    arguments = ("models", "import", folder, "--name", "mine", "--data", classes, "--promote")
    code, out, err = sightstream(home, *arguments, "--json")
    assert code == 0, err
    imported = json.loads(out)
    assert imported["origin"]["crop"] == "0.5, from preprocessor_config.json"
    code, out, err = sightstream(home, "evaluate", "mine", "--data", classes, "--json")
    assert code == 0, err
    for figure in ("accuracy", "ece", "top3_accuracy"):
        assert json.loads(out)[figure] == pytest.approx(imported["metrics"][figure], abs=1e-6)
    registry = Registry(settings.registry_address)
    engine = registry.load(registry.version("mine")).load()
    image = next((classes / "a").iterdir())
    seen = Preprocessing(16, 20, aspect="crop", crop=0.5)
    pixels = photographs.pixels([image.read_bytes()], seen)
    code, out, _ = sightstream(home, "predict", image, "--json")
    assert code == 0
    scores = {each["label"]: each["score"] for each in json.loads(out)[0]["top"]}
    expected = dict(zip("abcd", engine(pixels)[0].tolist(), strict=True))
    assert scores == pytest.approx({label: expected[label] for label in scores}, abs=1e-6)
    code, _, err = sightstream(home, "refresh", "mine")
    assert code == 2
    assert "mine's champion was imported, not trained here" in err


KILL = """
import os, signal, sys
from pathlib import Path
from mlflow.tracking import MlflowClient
from sightstream import config
from sightstream.models.bring.bring import Wish
from sightstream.models.bring.scale import NAMED
from training.bring import import_model

left = int(sys.argv[3])

def step(*_):
    global left
    left -= 1
    if not left:
        os.kill(os.getpid(), signal.SIGKILL)

def counted(call):
    def run(*args, **kwargs):
        step()
        return call(*args, **kwargs)
    return run

for name in ("create_run", "log_batch", "create_logged_model", "log_outputs",
             "log_model_artifacts", "finalize_logged_model", "set_terminated",
             "create_registered_model", "create_model_version", "set_registered_model_alias"):
    setattr(MlflowClient, name, counted(getattr(MlflowClient, name)))
import_model(config.load(home=Path(sys.argv[1])), Path(sys.argv[2]), "mine",
             Wish(tuple("abcd"), scale=NAMED["0..1"]), None, promote=True, allow_unreadable=False,
             on_step=step)
print("steps", -left)
"""


@pytest.mark.slow
def test_a_kill_at_any_step_leaves_the_registry_whole(tmp_path, settings):
    path = save(tmp_path / "m")

    def run(left):
        command = [sys.executable, "-c", KILL, str(settings.root), str(path), str(left)]
        env = os.environ | {"MLFLOW_DISABLE_TELEMETRY": "true"}
        return subprocess.run(command, capture_output=True, text=True, timeout=200, env=env)

    registry = Registry(settings.registry_address)
    # The first import has one step more, which registers the name.
    _, steps = (int(run(0).stdout.split()[-1]) for _ in range(2))
    assert steps >= 12
    champion = registry.version("mine")
    for left in range(1, steps + 1):
        assert run(left).returncode == -9
        assert Registry(settings.registry_address).version("mine").number >= champion.number
        for version in registry.versions("mine"):
            registry.load(version)  # each that is listed is complete
    assert "steps" in run(0).stdout
    assert registry.version("mine").number > champion.number


@pytest.fixture
def hanging(tmp_path):
    """A file of a model that never answers for a photograph."""
    path = tmp_path / "hangs.onnx"
    path.write_bytes(tiny_model.onnx_bytes(fault="hangs", grey=-1.0))
    return path


def imported(settings, path):
    wish = Wish(tuple("abc"))
    import_model(settings, path, "mine", wish, None, promote=True, allow_unreadable=False,
                 on_step=lambda _: None)  # fmt: skip


def test_a_model_that_hangs_is_not_imported(settings, hanging, monkeypatch):
    monkeypatch.setattr(bring, "LOADING", 5.0)
    before = {*psutil.Process().children()}
    with pytest.raises(InputError, match="running the original took over 5 seconds, so it is dam"):
        imported(settings, hanging)
    left = {*psutil.Process().children()} - before
    assert not [each for each in left if "spawn_main" in " ".join(each.cmdline())]
    assert not [*(settings.root / "tmp").iterdir()]
    assert not Registry(settings.registry_address).names()


def test_a_model_that_ends_its_process_is_not_imported(settings, hanging):
    def kill():
        while not done.wait(0.05):
            for each in psutil.Process().children():
                with suppress(psutil.Error):
                    if "spawn_main" in " ".join(each.cmdline()) and each.cpu_times().user > 4:
                        each.kill()

    done, killer = Event(), Thread(target=kill)
    killer.start()
    with pytest.raises(InputError, match="ended its process, so it is damaged"):
        imported(settings, hanging)
    done.set()
    killer.join()


def test_what_a_library_raises_is_told_in_a_sentence(settings, tmp_path):
    wish = Wish(tuple("abcd"), scale="no scale")  # as a library meets what it does not expect
    with pytest.raises(InputError, match="reading the file failed: 'str'"):
        import_model(settings, save(tmp_path), "mine", wish, None, promote=True,
                     allow_unreadable=False, on_step=lambda _: None)  # fmt: skip
    assert not Registry(settings.registry_address).names()
