"""Seeded mutation of all that comes from outside: `python -m tests.mutation --help`."""
