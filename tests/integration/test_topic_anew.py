"""A topic that is deleted and made anew under its name: told, and then read from its beginning."""

import re
import shutil
import subprocess

import pytest

from sightstream.config import Broker
from sightstream.io import kafka
from tests.topics import create, send, topics

SHORTER = pytest.param(2, id="shorter", marks=pytest.mark.slow)
LONGER = pytest.param(5, id="longer")


@pytest.fixture
def home(new_home, broker, topic, picture):
    create(broker, topic, partitions=1)
    made = new_home(kafka_servers=broker.address, kafka_topic=topic, source="kafka")
    send(broker, topic, [picture] * 3)
    return made


@pytest.fixture
def picture(starter):
    return starter.digits[0].read_bytes()


@pytest.fixture
def make_anew(broker, topic, picture, until):
    def made(count):
        with kafka.connect(Broker(broker.address)) as client:
            client.delete_topics([topic])
        until(lambda: topic not in topics(broker))
        create(broker, topic, partitions=1)
        named = [{"value": picture, "headers": [("ce_id", b"new")]}]
        send(broker, topic, [picture] * (count - 1) + named)

    return made


def once(home, **settings):
    return home("run", "--once", "--metrics-port", "0", **settings)


@pytest.mark.parametrize("count", [SHORTER, LONGER])
def test_it_ends_with_8_and_a_command_after_which_every_message_has_a_row(
    home, make_anew, topic, count
):
    assert once(home).returncode == 0
    make_anew(count)
    told = once(home)
    assert told.returncode == 8
    assert f"topic '{topic}' was deleted and made anew" in told.stderr
    assert home("doctor").returncode == 1
    assert home.count() == 3
    command = re.search(r"mv \S+ [^\s,]+", " ".join(told.stderr.split())).group()
    subprocess.run(command.split(), check=True)
    done = once(home, kafka_starting_offsets="latest")  # which is for a first start
    assert done.returncode == 0, done.stderr
    assert home.count() == 3 + count
    assert len(set(home.table()["event_id"].to_pylist())) == 3 + count
    assert once(home).returncode == 0
    assert home.count() == 3 + count


@pytest.mark.slow
@pytest.mark.parametrize("count", [SHORTER, LONGER])
def test_where_losses_are_allowed_it_is_read_from_its_beginning(home, make_anew, count):
    allowed = {"kafka_fail_on_data_loss": False}
    assert once(home, **allowed).returncode == 0
    make_anew(count)
    done = once(home, **allowed)
    assert done.returncode == 0, done.stderr
    assert home.count() == 3 + count


def test_a_running_stream_ends_with_8(home, make_anew, until):
    with home.running() as run:
        until(lambda: home.count() == 3)
        make_anew(3)  # as long as before, so that Spark sees no difference
        until(lambda: run.poll() is not None)
        assert run.returncode == 8
    assert "was deleted and made anew" in (home.settings.root / "run.err").read_text()


def test_a_running_stream_that_may_lose_messages_goes_on_by_itself(
    home, new_home, make_anew, until, broker, topic
):
    allowed = new_home(
        kafka_servers=broker.address, kafka_topic=topic, source="kafka",
        kafka_fail_on_data_loss=False,
    )  # fmt: skip
    with allowed.running() as run:
        until(lambda: allowed.count() == 3)
        make_anew(3)
        until(lambda: allowed.count() == 6)
        assert run.poll() is None


@pytest.mark.slow
def test_a_checkpoint_of_before_goes_on_and_learns_its_topic(home, make_anew):
    assert once(home).returncode == 0
    (checkpoint,) = (home.settings.root / "checkpoints" / "kafka").iterdir()
    (checkpoint / "topic-id").unlink()
    assert once(home).returncode == 0
    make_anew(5)
    assert once(home).returncode == 8
    shutil.rmtree(home.settings.root / "checkpoints")  # the table alone remembers the former one
    assert once(home).returncode == 0
    assert home.count() == 8
