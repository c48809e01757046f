"""A bucket of an object store as the inbox: objects stay there, and become manifests and rows."""
