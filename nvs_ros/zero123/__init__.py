"""The base model: its components, how it is conditioned, and the files it is stored in."""
