"""Images classified in anybody's Spark job, or without Spark.

Importing this starts nothing and changes nothing; docs/library.md shows its four functions.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sightstream.scoring.api import classify, classify_udf, load_model, predict

__all__ = ["classify", "classify_udf", "load_model", "predict"]


def __getattr__(name: str) -> Any:
    """Imports what is behind the door when it is first asked for."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from sightstream.scoring import api

    return getattr(api, name)
