"""Starts `sightstream` with a deliberate bug: `python -m tests.chaos.launch BUG run ...`."""

import sys

from sightstream.cli.main import main
from tests.chaos import bugs

if __name__ == "__main__":
    bugs.BUGS[sys.argv.pop(1)]()
    main()
