"""How fast sightstream is, against the bare loop on the same images in the same run."""
