"""A standalone cluster of two workers, with images and the table in an object store."""

import json
import os
from contextlib import ExitStack

import pytest

from sightstream.tables import delta
from tests import cluster, objects, topics

BUCKET = "lake"


class TestACluster:
    @pytest.fixture(scope="class")
    def place(self, tmp_path_factory):
        """The cluster, and the environment in which the object store is found."""
        with ExitStack() as stack:
            patch = stack.enter_context(pytest.MonkeyPatch.context())
            folder = tmp_path_factory.mktemp("cluster")
            for name, value in stack.enter_context(objects.running(folder, BUCKET)).items():
                patch.setenv(name, value)
            yield stack.enter_context(cluster.running(folder))

    @pytest.fixture(scope="class")
    def home(self, place, broker, new_home):
        return new_home(
            master=place.url, predictions_uri=f"s3://{BUCKET}/predictions", source="folder,kafka",
            kafka_servers=broker.address, kafka_topic="cluster",
            kafka_uri_prefixes=f"s3://{BUCKET}/photos",
        )  # fmt: skip

    @pytest.fixture(scope="class")
    def run(self, home, broker):
        topics.create(broker, "cluster")
        with home.running() as process:
            yield process

    @pytest.fixture
    def rows(self, run, figures, until):
        """Waits for a number of images to have been answered for since the run began."""

        def wait(count, seconds=90):
            def counted():
                found = figures(run).items()
                return sum(v for (name, *_), v in found if name == "sightstream_images_total")

            until(lambda: counted() >= count, seconds)
            assert counted() == count

        return wait

    def test_images_stay_in_the_object_store_and_are_classified_by_their_uris(
        self, home, broker, starter, rows
    ):
        digits = starter.digits[::60]
        store = delta.store(f"s3://{BUCKET}")
        contents = {f"{d.parent.name} {d.name}": d.read_bytes() for d in digits}
        contents["torn.png"] = digits[0].read_bytes()[:60]
        for name, content in contents.items():
            with store.open_output_stream(f"photos/{name}") as file:
                file.write(content)
        with store.open_output_stream("secret.png") as file:
            file.write(digits[0].read_bytes())

        topics.send(
            broker,
            "cluster",
            [
                {"value": b"", "headers": [("uri", f"s3://{BUCKET}/{name}".encode())]}
                for name in (
                    *(f"photos/{name.replace(' ', '%20')}" for name in contents),
                    "photos/none.png", "secret.png", "photos/../secret.png",
                )
            ],
        )  # fmt: skip
        rows(len(contents) + 3)
        found = home.table().to_pylist()
        assert len(found) == len(contents) + 3
        labels = {row["uri"].rpartition("/")[2]: row["label"] for row in found if row["label"]}
        assert len(labels) == len(digits)
        right = sum(name[0] == label for name, label in labels.items())
        assert right >= 0.9 * len(digits)
        refused = {row["uri"]: row["error_code"] for row in found if row["error_code"]}
        assert refused == {
            f"s3://{BUCKET}/photos/torn.png": "truncated",
            f"s3://{BUCKET}/photos/none.png": "not_found",
            f"s3://{BUCKET}/secret.png": "uri_refused",
            f"s3://{BUCKET}/photos/../secret.png": "uri_refused",
        }

    def test_the_table_is_asked_where_it_is(self, home):
        asked = home("query", "SELECT source, count(*) AS n FROM predictions GROUP BY 1",
                     "--format", "json")  # fmt: skip
        assert asked.returncode == 0, asked.stderr
        assert json.loads(asked.stdout) == [{"source": "kafka", "n": home.count()}]

    def test_what_lies_in_the_store_is_published_by_its_uris(self, home, broker, rows):
        before = home.count()
        sent = home("publish", f"s3://{BUCKET}/photos/", "--topic", "cluster", "--json")
        assert sent.returncode == 0, sent.stderr
        report = json.loads(sent.stdout)
        assert report["acknowledged"] == report["claim_checks"] == before - 3
        rows(2 * before - 3)
        found = home("query", "SELECT original_name FROM predictions WHERE original_name "
                     "LIKE 'photos/%' AND status = 'ok'", "--format", "json")  # fmt: skip
        assert len(json.loads(found.stdout)) == before - 4
        elsewhere = home("publish", f"s3://{BUCKET}", "--topic", "cluster")
        assert elsewhere.returncode == 1
        assert f"s3://{BUCKET}/secret.png may not be named" in elsewhere.stderr.replace("\n", " ")
        rows(3 * before - 6)

    @pytest.mark.slow
    def test_executors_are_killed_and_every_image_has_one_row(
        self, home, place, starter, rows, until
    ):
        def drop(name, copies):
            aside = home.settings.root / name
            for number in range(copies):
                (aside / str(number)).mkdir(parents=True)
                for digit in starter.digits:
                    os.link(digit, aside / str(number) / digit.name)
            aside.rename(home.settings.inbox / name)
            return [f"{name}/{n}/{digit.name}" for n in range(copies) for digit in starter.digits]

        kafka = home.count()
        names = drop("first", 1)
        rows(kafka + len(names))
        both = place.executors()
        assert len(both) == 2
        for victim, name in zip(both, ("second", "third"), strict=True):
            names += drop(name, 3)
            some = home.settings.inbox / name / "2" / starter.digits[0].name
            until(lambda some=some: not some.exists())
            assert home.count() < kafka + len(names)
            victim.kill()
            rows(kafka + len(names))
        until(lambda: len(place.executors()) == 2)
        assert not {each.pid for each in both} & {each.pid for each in place.executors()}

        found = home.table()
        assert len(set(found["event_id"].to_pylist())) == found.num_rows == kafka + len(names)
        dropped = [row for row in found.to_pylist() if row["source"] == "folder"]
        assert sorted(row["original_name"] for row in dropped) == sorted(names)
        assert {row["status"] for row in dropped} == {"ok"}

    @pytest.mark.slow
    def test_a_further_run_goes_on_where_this_one_was(self, home, run, starter):
        run.terminate()
        assert run.wait(60) == 0
        before = home.count()
        (home.settings.inbox / "one more.png").write_bytes(starter.digits[0].read_bytes())
        again = home("run", "--once", "--metrics-port", "0")
        assert again.returncode == 0, again.stderr
        assert home.count() == before + 1
