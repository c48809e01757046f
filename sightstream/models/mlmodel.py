"""A version as an MLflow model, which `mlflow.pyfunc`, `spark_udf` and `models serve` run.

The file MLmodel beside a version's files has no checksum: MLflow rewrites it when it copies models.
"""

from __future__ import annotations

import tempfile
import warnings
from importlib.metadata import PackageNotFoundError, version
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mlflow.entities import LoggedModel, RunInfo
    from mlflow.models import ModelSignature
    from mlflow.tracking import MlflowClient


def log(client: MlflowClient, run: RunInfo, name: str, directory: Path) -> LoggedModel:
    """Copy a version's files, and an MLmodel, into a logged model of a training's run."""
    from mlflow.entities import LoggedModelOutput, LoggedModelStatus

    model = client.create_logged_model(run.experiment_id, name=name, source_run_id=run.run_id)
    client.log_outputs(run.run_id, [LoggedModelOutput(model.model_id, step=0)])
    client.log_model_artifacts(model.model_id, str(directory))
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # MLflow's, of its own type hints
        _write(Path(folder) / "model", model, run)
        client.log_model_artifacts(model.model_id, str(Path(folder) / "model"))
    return client.finalize_logged_model(model.model_id, LoggedModelStatus.READY)


def signature() -> ModelSignature:
    """Return the columns of an input, of which a row has one, and of an answer."""
    from mlflow.models import ModelSignature
    from mlflow.types.schema import Array, ColSpec, Object, Property, Schema

    label = Object([Property("label", "string"), Property("score", "double")])
    answer = {
        "status": "string", "error_code": "string", "error_detail": "string", "label": "string",
        "score": "double", "top": Array(label), "format": "string",
        # A missing integer fails in MLflow's spark_udf.
        "width": "double", "height": "double",
    }  # fmt: skip
    inputs = {"image": "binary", "uri": "string"}
    return ModelSignature(
        Schema([ColSpec(kind, column, required=False) for column, kind in inputs.items()]),
        Schema([ColSpec(k, column, required=k != "double") for column, k in answer.items()]),
    )


def _write(folder: Path, model: LoggedModel, run: RunInfo) -> None:
    import pandas as pd
    from mlflow import pyfunc
    from mlflow.models import Model
    from PIL import Image

    try:
        requirement = f"sightstream=={version('sightstream')}"
    except PackageNotFoundError:  # It lies on the path without being installed.
        requirement = "sightstream"
    Image.new("RGB", (1, 1)).save(pixel := BytesIO(), "PNG")
    described = Model(
        artifact_path=model.artifact_location, run_id=run.run_id, model_id=model.model_id,
        model_uuid=model.model_id,
    )  # fmt: skip
    pyfunc.save_model(
        folder, loader_module="sightstream.scoring.pyfunc", mlflow_model=described,
        signature=signature(), input_example=pd.DataFrame({"image": [pixel.getvalue()]}),
        pip_requirements=[requirement],
    )  # fmt: skip
