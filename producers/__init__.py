"""Ways to hand images over: into the inbox, onto a topic."""
