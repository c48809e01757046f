"""`python -m sightstream` is the same program as `sightstream`."""

from sightstream.cli.main import main

main()
