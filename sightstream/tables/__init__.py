"""Tables: what is predicted and what people say, as Delta tables."""
