"""The base model Zero-1-to-3: its components, its conditioning, and its file formats."""
