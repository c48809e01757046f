"""Beam RunInference with its ONNX handler; the DirectRunner with a process a core; text files."""

import io
import os
import time
from typing import Any

import apache_beam as beam
from apache_beam.io import fileio
from apache_beam.ml.inference.base import KeyedModelHandler, PredictionResult, RunInference
from apache_beam.ml.inference.onnx_inference import OnnxModelHandlerNumpy
from apache_beam.options.pipeline_options import PipelineOptions
from protocol import CORES, MODEL, ROWS, answer, decode


class OneThread(OnnxModelHandlerNumpy):
    """A session's options cannot be pickled, so they are made where the model is loaded."""

    def load_model(self) -> Any:
        """The session, on one thread."""
        import onnxruntime

        self._session_options = onnxruntime.SessionOptions()
        self._session_options.intra_op_num_threads = 1
        self._session_options.inter_op_num_threads = 1
        return super().load_model()


def read(file: fileio.ReadableFile) -> tuple[str, Any]:
    """Pixels of a file, keyed by its path."""
    return file.metadata.path, decode(io.BytesIO(file.read()))


def row(result: tuple[str, PredictionResult]) -> str:
    """A line of path and label."""
    path, prediction = result
    return f"{path},{prediction.inference.argmax()}"


def classify(folder: str) -> int:
    """A job for all images of a folder."""
    options = PipelineOptions(
        runner="DirectRunner", direct_running_mode="multi_processing", direct_num_workers=CORES
    )
    handler = OneThread(f"{MODEL}.onnx", min_batch_size=16, max_batch_size=64)
    with beam.Pipeline(options=options) as pipeline:
        (
            pipeline
            | fileio.MatchFiles(f"{folder}/*.jpg")
            | fileio.ReadMatches()
            | beam.Reshuffle()
            | beam.Map(read)
            | RunInference(KeyedModelHandler(handler))
            | beam.Map(row)
            | beam.io.WriteToText(str(ROWS / str(time.time_ns())), file_name_suffix=".csv")
        )
    return sum(1 for _ in os.scandir(folder))


if __name__ == "__main__":
    answer(classify=classify)
