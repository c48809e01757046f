"""The stream: images become rows; job.py wires its parts."""
