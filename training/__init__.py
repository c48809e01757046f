"""Data sets, recipes, the Elephas fit, evaluation and publishing."""
