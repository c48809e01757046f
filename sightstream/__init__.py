"""Images classified in anybody's Spark job, or without Spark; see docs/library.md."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sightstream.scoring.api import classify, classify_udf, load_model, predict

__all__ = ["classify", "classify_udf", "load_model", "predict"]


def __getattr__(name: str) -> Any:
    """Import a public function when it is first used."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from sightstream.scoring import api

    return getattr(api, name)
