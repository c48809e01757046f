"""The inbox as a source of images: intake, manifests, Spark's source, assignments."""
