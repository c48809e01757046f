"""Programs that send images: into the inbox, or to a topic."""
