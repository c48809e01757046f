"""Intake, sources, classifier and outcomes; job.py wires them."""
