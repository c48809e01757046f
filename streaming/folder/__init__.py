"""The inbox as a source of images."""
