"""Use of the computer's cores and memory, and timing."""
