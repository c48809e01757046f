"""What several test files share: homes, the starter model, and the running program."""

import fcntl
import gc
import itertools
import json
import os
import pty
import shutil
import signal
import struct
import subprocess
import sys
import termios
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from threading import Thread
from urllib.request import urlopen

import psutil
import pytest

from sightstream import config
from sightstream.images.event import ImageEvent
from streaming.folder.manifests import between, placed, read
from tests import broker as broker_of_tests

# As the program does: the more was imported, the longer each look at it takes.
gc.set_threshold(50_000)

# Brokers and clusters live for minutes, of which the JVM would spend half on optimising their code.
os.environ.setdefault("JAVA_TOOL_OPTIONS", "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC")


def pytest_addoption(parser):
    """Screenshots change the work tree, so they are taken when asked for only."""
    parser.addoption("--screenshots", help="a folder for pictures of the page's four pages")


@pytest.fixture
def settings(tmp_path, monkeypatch):
    """The settings of an empty home, untouched by this machine's environment and files."""
    for name in os.environ:
        if name.startswith(config.ENV_PREFIX):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    return config.load(home=tmp_path / "home")


@pytest.fixture
def told(settings):
    """Reads what all manifests tell, in their order."""

    def events():
        found = placed(read(between(settings.manifests, {})), settings.images)
        return [ImageEvent(**event) for event in found.to_pylist()]

    return events


@pytest.fixture
def left(settings):
    """Lists what is in the inbox, folders left out, as paths below it."""

    def read():
        inbox = os.fsencode(settings.inbox)
        return {
            os.path.relpath(os.path.join(folder, name), inbox)  # noqa: PTH118
            for folder, _, names in os.walk(inbox)
            for name in names
        }

    return read


@pytest.fixture
def topic(request):
    """The name of a topic that no other test has."""
    return f"{request.path.stem.removeprefix('test_')}-{os.getpid()}-{next(_TOPIC_NUMBERS)}"


_TOPIC_NUMBERS = itertools.count()


@pytest.fixture(scope="session")
def until():
    """Looks again and again until a condition holds, and fails when it does not come true."""
    return _wait_until


@dataclass(frozen=True)
class Starter:
    """The home folder whose registry holds the starter model, the report of its training as JSON,
    and all that its training wrote to its terminal.
    """

    home: Path
    report: dict
    screen: str

    @property
    def digits(self):
        """All handwritten digits, as <label>/<label>-<number>.png."""
        return sorted((self.home / "starter" / "digits").glob("*/*.png"))

    @property
    def database(self):
        return self.home / "registry" / "mlflow.db"


class Home:
    """A home folder, and the program as a user runs it there."""

    def __init__(self, root, registry_uri, **settings):
        settings |= {"home": str(root), "registry_uri": registry_uri}
        self.settings = config.Settings(**settings)
        self.environment = {
            **{k: v for k, v in os.environ.items() if not k.startswith(config.ENV_PREFIX)},
            **_environment(settings),
        }
        root.mkdir(parents=True)

    def __call__(self, *arguments, stderr=subprocess.PIPE, **settings):
        """Runs a command to its end; settings hold for it alone."""
        return subprocess.run(
            [sys.executable, "-m", "sightstream", *map(str, arguments)],
            env=self.environment | _environment(settings), cwd=self.settings.root,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=stderr, text=True, timeout=200,
        )  # fmt: skip

    @contextmanager
    def running(self, *flags):
        """`sightstream run`, ready to classify, until the block ends; then nothing is left of it.

        Yields its process, with its metrics' address as `metrics_url`.
        """
        out, err = self.settings.root / "run.out", self.settings.root / "run.err"
        with out.open("w") as stdout, err.open("w") as stderr:
            process = subprocess.Popen(
                [sys.executable, "-m", "sightstream", "run", "--metrics-port", "0", *flags],
                env=self.environment, cwd=self.settings.root, stdin=subprocess.DEVNULL,
                stdout=stdout, stderr=stderr, start_new_session=True,
            )  # fmt: skip
        try:
            said = _started(process, err)
            (line,) = (each for each in said if each.strip().startswith("metrics  http://"))
            process.metrics_url = line.split()[1]
            yield process
        finally:
            end_session(process)

    @contextmanager
    def serving(self, *flags):
        """`sightstream web` until the block ends. Yields its process, with its address as `url`."""
        err = self.settings.root / "web.err"
        with err.open("w") as stderr:
            process = subprocess.Popen(
                [sys.executable, "-m", "sightstream", "web", "--port", "0", *flags],
                env=self.environment, cwd=self.settings.root, stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL, stderr=stderr, start_new_session=True,
            )  # fmt: skip
        try:
            process.url = _started(process, err)[0].split()[-1]
            _wait_until(lambda: _answers(f"{process.url}/_stcore/health"))
            yield process
        finally:
            end_session(process)

    def publish_copies(self, count):
        """Registers further versions of the starter that are equal to the first."""
        from sightstream.models.registry import Registry

        registry = Registry(self.settings.registry_address)
        first = registry.version("starter", 1)
        with registry.report(first) as report:
            for number in range(count):
                registry.publish(
                    "starter", first.folder, first.digest, parameters={"copy": number},
                    metrics=first.metrics, curves=registry.curves(first), report=report,
                )  # fmt: skip
        return registry

    def table(self):
        """The predictions, read as any other process reads them."""
        from deltalake import DeltaTable

        return DeltaTable(self.settings.predictions).to_pyarrow_dataset().to_table()

    def count(self):
        """The number of rows; none where there is no table yet."""
        from deltalake import DeltaTable

        there = DeltaTable.is_deltatable(self.settings.predictions)
        return self.table().num_rows if there else 0


def _environment(settings):
    said = {key: json.dumps(v) if isinstance(v, dict) else str(v) for key, v in settings.items()}
    return {config.ENV_PREFIX + key.upper(): value for key, value in said.items()}


def _started(process, err):
    """What a command has said once it is ready."""
    deadline = time.monotonic() + 120
    while "Ctrl-C ends" not in err.read_text():
        assert process.poll() is None, err.read_text()
        assert time.monotonic() < deadline, err.read_text()
        time.sleep(0.05)
    return err.read_text().splitlines()


def _answers(url):
    try:
        with urlopen(url, timeout=5) as answer:
            return answer.status == 200
    except OSError:
        return False


def end_session(process):
    """Kills a process with its group and its session; Spark's Python has a group of its own."""
    with suppress(ProcessLookupError):  # it has ended by itself, as some tests ask it to
        os.killpg(process.pid, signal.SIGKILL)
    process.wait(timeout=60)
    deadline = time.monotonic() + 30
    while left := _session(process.pid):
        for each in left:
            if each.is_running():
                each.kill()
        assert time.monotonic() < deadline, left
        time.sleep(0.05)


def _session(leader):
    found = []
    for each in psutil.process_iter():
        try:
            alive = each.status() != psutil.STATUS_ZOMBIE
            if alive and os.getsid(each.pid) == leader:
                found.append(each)
        except (ProcessLookupError, psutil.NoSuchProcess):
            continue
    return found


@pytest.fixture(scope="session")
def starter(tmp_path_factory):
    """The starter model, really trained, once in a test run, by the process that needs it first."""
    folder = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        folder = folder.parent  # which the other processes have too
    root, said, screen = (folder / name for name in ("starter", "starter.json", "starter.screen"))
    with (folder / "starter.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not said.exists():
            with terminal(screen) as stderr:
                done = Home(root, "")("train", "starter", "--home", root, "--json", stderr=stderr)
            assert done.returncode == 0, screen.read_text()
            said.write_text(done.stdout)
    return Starter(root, json.loads(said.read_text()), screen.read_text())


@contextmanager
def terminal(shown):
    """Yields the descriptor of a terminal; all that is written to it goes to a file."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 50, 200, 0, 0))

    def copy():
        with shown.open("wb") as file, suppress(OSError):  # as Linux tells that the last has left
            while piece := os.read(ours, 2**16):
                file.write(piece)

    reader = Thread(target=copy)
    reader.start()
    try:
        yield theirs
    finally:
        os.close(theirs)
        reader.join(timeout=60)
        os.close(ours)


@pytest.fixture(scope="session")
def new_home(starter, tmp_path_factory):
    """Makes homes of their own that serve the starter model.

    With `own_registry`, versions can be published and promoted without other tests seeing it.
    Further arguments are settings, as the environment holds them.
    """

    def make(*, own_registry=False, **settings):
        root = tmp_path_factory.mktemp("home") / "home"
        if not own_registry:
            return Home(root, f"sqlite:///{starter.database}", **settings)
        home = Home(root, "", **settings)
        shutil.copytree(starter.database.parent, home.settings.registry)
        return home

    return make


@pytest.fixture
def tiny_home(tmp_path):
    """Makes a home whose registry is empty, for models that need no training."""
    return lambda **settings: Home(tmp_path / "home", "", **settings)


def figures_of(address):
    """Reads a running stream's metrics at their address, as {(name, label values...): value}.

    The values are in the order of their labels' names.
    """
    from prometheus_client.parser import text_string_to_metric_families

    with urlopen(address, timeout=10) as answer:
        text = answer.read().decode()
    return {
        (sample.name, *(v for _, v in sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


@pytest.fixture(scope="session")
def figures():
    """`figures_of` the process of a running stream."""
    return lambda process: figures_of(process.metrics_url)


@pytest.fixture(scope="session")
def broker(tmp_path_factory):
    """A real Kafka broker, once in a test run; it also listens with TLS and SCRAM."""
    with broker_of_tests.running(tmp_path_factory.mktemp("kafka") / "broker", secure=True) as it:
        yield it


def _wait_until(condition, seconds=60):
    deadline = time.monotonic() + seconds
    while True:
        begin = time.monotonic()
        if answer := condition():
            return answer
        now = time.monotonic()
        assert now < deadline, f"not within {seconds} s: {condition}"
        # Looking takes at most a fifth of a core from what is waited for.
        time.sleep(max(0.01, 4 * (now - begin)))
