"""Ray Data: images are read as its guide does, a pool of actors predicts, Parquet."""

import os
import time
from typing import Any

import ray
from protocol import CORES, ROWS, SIDE, answer, network


class Predictor:
    """An actor with its own network."""

    def __init__(self) -> None:
        self.run = network()

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        """Labels of pixels (n, SIDE, SIDE, 3)."""
        return {"path": batch["path"], "label": self.run(batch["image"]).argmax(1)}


def classify(folder: str) -> int:
    """A job for all images of a folder."""
    images = ray.data.read_images(folder, size=(SIDE, SIDE), mode="RGB", include_paths=True)
    # Half a core for each actor: with a whole one they would leave none for the reading.
    rows = images.map_batches(
        Predictor, batch_size=64, compute=ray.data.ActorPoolStrategy(size=CORES), num_cpus=0.5
    )
    rows.write_parquet(str(ROWS / str(time.time_ns())))
    return sum(1 for _ in os.scandir(folder))


if __name__ == "__main__":
    ray.init(num_cpus=CORES, include_dashboard=False, logging_level="ERROR")
    ray.data.DataContext.get_current().enable_progress_bars = False
    answer(classify=classify)
