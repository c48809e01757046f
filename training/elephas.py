"""Every reach into Elephas: its workers, its parameter server and the release that is needed."""

import json
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from functools import cache
from importlib.metadata import version
from inspect import signature
from typing import Any, Literal

import numpy as np

from sightstream.errors import EnvironmentUnfitError
from sightstream.io.address import free_port
from training import networks

log = logging.getLogger(__name__)

Mode = Literal["synchronous", "asynchronous", "hogwild"]

History = dict[str, list[float]]  # loss and accuracy of one worker, a value for each of its passes
OLDEST = (7, 3)  # earlier releases unpickle what anyone sends to their server
_WORKER_FIELDS = {"json", "parameters", "train_config", "master_optimizer", "master_loss"}


def require() -> None:
    """Checks that Elephas is installed in a release that fits.

    Raises:
        ModuleNotFoundError: it is not installed.
        EnvironmentUnfitError: it is too old. On Python 3.13 a bare `pip install elephas` takes
            3.4.8, since later releases claim not to run there.
    """
    installed = version("elephas")
    if tuple(map(int, installed.split(".")[:2])) < OLDEST:
        raise EnvironmentUnfitError(
            f"elephas {installed} is too old; install a newer one with: pip install --no-deps "
            "--ignore-requires-python 'elephas>=7.3,<8'"
        )


def trainer(learner: Any, mode: Mode, batch_size: int) -> Callable[[Any, int], list[History]]:
    """Returns a function that trains a compiled Keras model by Elephas, in place.

    It gets an RDD of (input, target) and a number of passes, and returns each worker's history; in
    the asynchronous modes, where weights go by a parameter server after each pass, there is none.
    """
    model = _model(learner, mode, batch_size)
    ours = mode == "synchronous" and _takes_workers()

    def train(rows: Any, passes: int) -> list[History]:
        before = len(model.training_histories)
        config = {"epochs": 1, "passes": passes} if ours else {"epochs": passes}
        with _our_workers() if ours else nullcontext():
            model.fit(rows, batch_size=batch_size, verbose=0, **config)
        return list(model.training_histories[before:])

    return train


def _model(learner: Any, mode: Mode, batch_size: int) -> Any:
    from elephas.spark_model import AsynchronousSparkModel, SparkModel

    if mode == "synchronous":
        return SparkModel(learner, batch_size=batch_size)

    class Model(AsynchronousSparkModel):
        """Stops its server also where a training fails."""

        @contextmanager
        def run_parameter_server(self) -> Iterator[None]:
            self.parameter_server.start()
            try:
                yield
            finally:
                self.parameter_server.stop()

    # The socket server is a thread with a protocol of its own. The default one is a forked Flask
    # in debug mode, which runs the code of whoever reaches it.
    port = free_port()
    model = Model(
        learner, batch_size=batch_size, mode=mode, parameter_server_mode="socket", port=port
    )
    try:
        model.parameter_server = _server(model.serialized_model, port, mode)
    except (ImportError, AttributeError) as error:
        log.warning("this Elephas has another server than 7.3, which is used as it is: %s", error)
    return model


def _server(network: dict[str, Any], port: int, mode: Mode) -> Any:
    from elephas.parameter.server import SocketServer

    _ = SocketServer.action_listener, SocketServer.update_parameters, SocketServer.get_parameters

    class Server(SocketServer):
        """Ends a connection's thread with its connection; Elephas' own spins until the end."""

        def action_listener(self, connection: Any) -> None:
            with connection, suppress(OSError):
                while action := connection.recv(1):
                    (self.update_parameters if action == b"u" else self.get_parameters)(connection)

    return Server(network, port, mode)


@cache
def _takes_workers() -> bool:
    """Checks, and logs once, whether Elephas' workers are as `_our_workers` needs them."""
    from elephas import spark_model

    worker: Any = getattr(spark_model, "SparkWorker", None)
    fits = worker is not None and signature(worker).parameters.keys() >= _WORKER_FIELDS
    if not fits:
        log.warning("this Elephas has other workers than 7.3: they are used as they are")
    return fits


@contextmanager
def _our_workers() -> Iterator[None]:
    """Makes Elephas train with workers that keep their network, which takes seconds to build."""
    from elephas import spark_model

    class Worker(spark_model.SparkWorker):
        def train(self, data_iterator: Iterator[tuple[Any, Any]]) -> Iterator[Any]:
            yield _trained(self, list(data_iterator))

    theirs, spark_model.SparkWorker = spark_model.SparkWorker, Worker
    try:
        yield
    finally:
        spark_model.SparkWorker = theirs


def _trained(worker: Any, rows: list[tuple[Any, Any]]) -> list[Any]:
    """Trains a worker's rows; returns what its weights lost, and its history."""
    rate = worker.master_optimizer["config"].pop("learning_rate")
    model = networks.built(
        networks.architecture(worker.json), json.dumps(worker.master_optimizer), worker.master_loss
    )
    networks.forget_training(model)
    model.optimizer.learning_rate = rate
    before = worker.parameters.value
    model.set_weights(before)
    x, y = np.stack([x for x, _ in rows]), np.array([y for _, y in rows])
    config = worker.train_config
    images = networks.batches(x, y, config["batch_size"])
    history = model.fit(images, epochs=config["passes"], verbose=0).history
    return [[a - b for a, b in zip(before, model.get_weights(), strict=True)], history]
