"""Models: versions, the engines that run them, the registry that keeps them."""
