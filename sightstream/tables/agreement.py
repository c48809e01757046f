"""How two versions of a model agreed on the images that both answered for in the stream."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from sightstream.errors import InputError
from sightstream.tables.query import Snapshot, snapshot

Pair = tuple[int, int]

_ROW = "event_id, source, original_name, uri, event_time, processed_at"

_FIRST = f"SELECT {_ROW}, model, model_version AS version, label, score"

_BESIDE = f"""
SELECT {_ROW}, o.model, o.version, o.label, o.score, 2 AS rank
FROM (SELECT {_ROW}, unnest(also) AS o FROM predictions WHERE also IS NOT NULL)
"""  # noqa: S608

_LIVE = f"{_FIRST}, 1 AS rank FROM predictions WHERE also IS NOT NULL UNION ALL {_BESIDE}"

_ANSWERS = "answers"
"""Name of the other table, whose rows are of the same images."""

_WITH_TABLE = f"""
{_FIRST}, 0 AS rank FROM {_ANSWERS} UNION ALL {_FIRST}, 1 FROM predictions UNION ALL {_BESIDE}
"""
"""All answers; of several of a version to one image, that of the lowest rank counts."""

_BOTH = """
WITH said AS (SELECT DISTINCT ON (event_id, model, version) * FROM ({said})
  WHERE label IS NOT NULL AND processed_at >= $4 ORDER BY event_id, model, version, rank, label),
mine AS (SELECT * FROM said WHERE model = $1 AND version = $2),
both_said AS (
  SELECT mine.event_id, mine.source, mine.original_name, mine.uri, mine.event_time,
    mine.label AS a, said.label AS b, mine.score AS score_a, said.score AS score_b,
    labels.label AS truth
  FROM mine JOIN said ON said.event_id = mine.event_id AND said.model = mine.model
    AND said.version = $3
  LEFT JOIN labels ON labels.event_id = mine.event_id)
"""

_CLASSES = """
SELECT a AS label, count(*) AS images, count(*) FILTER (a = b) AS agreed, count(truth) AS labelled,
  count(*) FILTER (a = truth) AS right_a, count(*) FILTER (b = truth) AS right_b
FROM both_said GROUP BY a ORDER BY a
"""

_MATRIX = "SELECT a, b, count(*) AS images FROM both_said GROUP BY a, b ORDER BY a, b"

_EXAMPLES = """
SELECT event_id, source, original_name, uri, a, score_a, b, score_b, truth
FROM both_said WHERE a <> b ORDER BY {order}, event_id LIMIT $5
"""

_NEWEST, _SUREST = "event_time DESC", "score_a + score_b DESC"


@dataclass(frozen=True)
class Agreement:
    """What versions `a` and `b` of a model answered to the same images of the stream.

    `classes` has a row for each label of `a`: its images, and how many got the same of `b`.
    `labelled` images have a label that a person gave, which `right_a` and `right_b` of them got.
    `matrix` has a row for each pair of their labels. `examples` are the newest images on which the
    two differ, or where a table of answers was given, those on which both are the surest.
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
    matrix: list[dict[str, Any]] = field(default_factory=list)

    @property
    def share(self) -> float:
        """Share of the images on which both gave the same label; 0 without images."""
        return self.agreed / self.images if self.images else 0.0

    def as_dict(self) -> dict[str, Any]:
        """Return all of it for JSON."""
        return {**asdict(self), "share": self.share}


def agreement(
    path: str, model: str, pair: Pair, *, since: datetime, labels: Path | None = None,
    examples: int = 20, table: str = "",
) -> Agreement:  # fmt: skip
    """Compare two versions on the rows since a time, UTC, that have the answers of both.

    Rows of before a version was made are of another registry that called its own as this one.

    With the place of a `table` that a backfill made, its answers count too.

    Raises:
        InputError: there is no table yet, or it cannot be read.
    """
    with snapshot(path, labels=labels, since=since) as now:
        if not now.ask("SELECT 1 FROM (DESCRIBE predictions) WHERE column_name = 'also'").num_rows:
            raise InputError(
                "no other model has answered in the stream yet; start it with: sightstream run "
                f"--shadow {model}@challenger"
            )
        if table:
            now.add(_ANSWERS, table)
        return _compared(now, model, pair, since, examples, with_table=bool(table))


def _compared(
    now: Snapshot, model: str, pair: Pair, since: datetime, examples: int, *, with_table: bool
) -> Agreement:  # fmt: skip
    both = _BOTH.format(said=_WITH_TABLE if with_table else _LIVE)
    order = _EXAMPLES.format(order=_SUREST if with_table else _NEWEST)
    values = [model, *pair, since]
    classes = now.ask(both + _CLASSES, values).to_pylist()
    matrix = now.ask(both + _MATRIX, values).to_pylist()
    different = now.ask(both + order, [*values, examples]).to_pylist()
    counts = ("images", "agreed", "labelled", "right_a", "right_b")
    total = {name: sum(row[name] for row in classes) for name in counts}
    return Agreement(model, *pair, **total, classes=classes, examples=different, matrix=matrix)
