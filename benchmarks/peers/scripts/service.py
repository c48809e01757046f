"""FastAPI: an upload and its answer, as its documentation writes both; uvicorn runs it."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI, UploadFile
from protocol import decode, network

models = {}


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    """Loads the network before the first request."""
    models["network"] = network()
    yield


app = FastAPI(lifespan=lifespan)


@app.post("/predict")
def predict(file: UploadFile) -> dict[str, int]:
    """The label of an image."""
    return {"label": int(models["network"](decode(file.file)[None]).argmax())}
