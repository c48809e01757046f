"""Scoring: a model applied to images, in this process, in a child, on Spark."""
