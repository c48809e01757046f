"""Images that are there already, classified in one go: planned once, each committed once."""
