"""sightstream against what else one would write or run; see docs/benchmark.md."""
