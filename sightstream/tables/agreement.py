"""How two versions of a model agreed on the images that both answered for in the stream."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from sightstream.errors import InputError
from sightstream.tables.query import Snapshot, snapshot

Pair = tuple[int, int]

_BOTH = """
WITH said AS (
  SELECT event_id, model, model_version AS version, label, score FROM predictions
  WHERE also IS NOT NULL AND processed_at >= $4
  UNION ALL
  SELECT event_id, o.model, o.version, o.label, o.score
  FROM (SELECT event_id, unnest(also) AS o FROM predictions
    WHERE also IS NOT NULL AND processed_at >= $4)),
mine AS (SELECT * FROM said WHERE model = $1 AND version = $2 AND label IS NOT NULL),
both_said AS (
  SELECT mine.event_id, mine.label AS a, said.label AS b, mine.score AS score_a,
    said.score AS score_b, labels.label AS truth
  FROM mine JOIN said ON said.event_id = mine.event_id AND said.model = mine.model
    AND said.version = $3 AND said.label IS NOT NULL
  LEFT JOIN labels ON labels.event_id = mine.event_id)
"""

_CLASSES = f"""
{_BOTH}
SELECT a AS label, count(*) AS images, count(*) FILTER (a = b) AS agreed, count(truth) AS labelled,
  count(*) FILTER (a = truth) AS right_a, count(*) FILTER (b = truth) AS right_b
FROM both_said GROUP BY a ORDER BY a
"""  # noqa: S608  it is all ours

_EXAMPLES = f"""
{_BOTH}
SELECT event_id, original_name, uri, a, score_a, b, score_b, truth
FROM both_said JOIN predictions USING (event_id)
WHERE a <> b ORDER BY event_time DESC, event_id LIMIT $5
"""  # noqa: S608


@dataclass(frozen=True)
class Agreement:
    """What versions `a` and `b` of a model answered to the same images of the stream.

    `classes` has a row for each label of `a`: its images, and how many got the same of `b`.
    `labelled` images have a label that a person gave, which `right_a` and `right_b` of them got.
    `examples` are the newest images on which the two differ.
    """

    model: str
    a: int
    b: int
    images: int
    agreed: int
    labelled: int
    right_a: int
    right_b: int
    classes: list[dict[str, Any]]
    examples: list[dict[str, Any]]

    @property
    def share(self) -> float:
        """Share of the images on which both gave the same label; 0 without images."""
        return self.agreed / self.images if self.images else 0.0

    def as_dict(self) -> dict[str, Any]:
        """Return all of it for JSON."""
        return {**asdict(self), "share": self.share}


def agreement(
    path: str, model: str, pair: Pair, *, since: datetime, labels: Path | None = None,
    examples: int = 20,
) -> Agreement:  # fmt: skip
    """Compare two versions on the rows since a time, UTC, that have the answers of both.

    Rows of before a version was made are of another registry that called its own as this one.

    Raises:
        InputError: there is no table yet, or it cannot be read.
    """
    with snapshot(path, labels=labels, since=since) as now:
        if not now.ask("SELECT 1 FROM (DESCRIBE predictions) WHERE column_name = 'also'").num_rows:
            raise InputError(
                "no other model has answered in the stream yet; start it with: sightstream run "
                f"--shadow {model}@challenger"
            )
        return _compared(now, model, pair, since, examples)


def _compared(
    now: Snapshot, model: str, pair: Pair, since: datetime, examples: int
) -> Agreement:  # fmt: skip
    values = [model, *pair, since]
    classes = now.ask(_CLASSES, values).to_pylist()
    different = now.ask(_EXAMPLES, [*values, examples]).to_pylist()
    counts = ("images", "agreed", "labelled", "right_a", "right_b")
    total = {name: sum(row[name] for row in classes) for name in counts}
    return Agreement(model, *pair, **total, classes=classes, examples=different)
