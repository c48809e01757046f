"""Images: their bytes, where these are, and what a decoder makes of them."""
