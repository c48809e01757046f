"""Training: data sets, recipes, the fit with Elephas, evaluation and publishing."""
