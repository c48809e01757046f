"""`make bench-peers`: sightstream and what else one would run, in turn; see docs/benchmark.md."""

from __future__ import annotations

import argparse
import json
import signal
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.__main__ import machine
from benchmarks.peers import report
from benchmarks.peers.comparison import Comparison, screen
from benchmarks.peers.peer import Peer, peers, prepare


def main() -> None:
    """Runs the comparison that was chosen."""
    known = peers()
    parser = argparse.ArgumentParser(prog="benchmarks.peers", description=__doc__)
    parser.add_argument("--only", help=f"some of {','.join(known)}")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--images", type=int, default=2000, help="a round, 24x24; 0 leaves it out")
    parser.add_argument("--real", type=int, default=200, help="a round, at 224; 0 leaves it out")
    parser.add_argument("--seconds", type=float, default=20, help="of the trickle")
    parser.add_argument("--folder", type=Path, default=Path.cwd() / "data" / "benchmark")
    parser.add_argument("--out", type=Path, default=Path(__file__).with_name("results.json"))
    chosen = parser.parse_args()
    names = chosen.only.split(",") if chosen.only else list(known)
    if unknown := set(names) - set(known):
        parser.error(f"no peer {', '.join(sorted(unknown))}; there are {', '.join(known)}")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("ended"))  # and so do all that it started
    results = run({name: known[name] for name in names}, chosen)
    show(results)


def run(chosen_peers: dict[str, Peer], chosen: argparse.Namespace) -> dict[str, Any]:
    """All workloads."""
    commands, failed = {}, {}
    for name, peer in chosen_peers.items():
        try:
            commands[name] = prepare(peer, chosen.folder / "peers", screen.print)
        except (OSError, RuntimeError) as error:
            failed[name] = {"error": f"cannot be installed: {error}"}
            screen.print(name, failed[name]["error"], markup=False)
    results: dict[str, Any] = {
        "date": f"{datetime.now(UTC):%-d %B %Y}",
        "machine": machine(),
        "settings": {"rounds": chosen.rounds, "seconds": chosen.seconds, "command": command()},
        "workloads": {},
    }
    chosen.folder.mkdir(parents=True, exist_ok=True)
    for name, count in (("24x24", chosen.images), ("MobileNetV2", chosen.real)):
        if count:
            with tempfile.TemporaryDirectory(dir=chosen.folder) as folder:
                it = Comparison(Path(folder), name, count, chosen.rounds, chosen.seconds)
                told = it.run(chosen_peers, commands)
            told["figures"] |= failed
            results["workloads"][name] = told
            keep(results, chosen.out)
    return results


def keep(results: dict[str, Any], path: Path) -> None:
    """Writes JSON, and the page of tables beside it."""
    titles = {name: (peer.title, peer.lacks) for name, peer in peers().items()}
    titles["sightstream"] = ("**sightstream**", "")
    path.write_text(json.dumps(results, indent=2) + "\n")
    path.with_suffix(".md").write_text(report.markdown(results, titles))


def command() -> str:
    """What was typed."""
    told = " ".join(sys.argv[1:])
    return f'make bench-peers ARGS="{told}"' if told else "make bench-peers"


def show(results: dict[str, Any]) -> None:
    """The table on the screen."""
    table = Table("workload", "peer", "images/s", "sightstream / it", "start, s", "MiB", "p50, p95",
                  "equal labels")  # fmt: skip
    for name, part in results["workloads"].items():
        for peer, told in part["figures"].items():
            table.add_row(name, peer, *report.cells(told))
    Console().print(table)


if __name__ == "__main__":
    main()
