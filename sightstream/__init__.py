"""What every part of the project shares; see streaming, training and producers for the rest."""
