"""What the scripts of peers share: the workload, a decoder as guides write it, and the talk.

The environment names the workload: MODEL.onnx and MODEL.keras are the network (uint8 pixels
(n, SIDE, SIDE, 3) to probabilities), WORK is a folder of the peer's own, CORES its processes.
A job gets lines of JSON, [command, argument...], and answers each when its results are in files
below WORK/rows. A stream gets no lines: it watches WORK/inbox, a level of folders with images.
Rows are the path of an image and the number of its label.
"""

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

MODEL = os.environ["MODEL"]
SIDE = int(os.environ["SIDE"])
CORES = int(os.environ["CORES"])
WORK = Path(os.environ["WORK"])
INBOX, ROWS = WORK / "inbox", WORK / "rows"


def answer(**commands: Callable[..., Any]) -> None:
    """Runs a command for each line, until standard input ends."""
    for line in sys.stdin:
        name, *arguments = json.loads(line)
        print(json.dumps({"answer": commands[name](*arguments)}), flush=True)


def network() -> Callable[[Any], Any]:
    """The network in ONNX Runtime, on one thread."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(f"{MODEL}.onnx", options)
    name = session.get_inputs()[0].name
    return lambda pixels: session.run(None, {name: pixels})[0]


def decode(source: str | BinaryIO, *, scaled: bool = False) -> Any:
    """Pixels of an image, as guides write it; or with libjpeg's scaled decoding."""
    import numpy as np
    from PIL import Image

    image = Image.open(source)
    if scaled:
        image.draft("RGB", (SIDE, SIDE))
    return np.asarray(image.convert("RGB").resize((SIDE, SIDE), Image.Resampling.BILINEAR))
