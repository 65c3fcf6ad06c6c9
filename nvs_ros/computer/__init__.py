"""What the computer gives: cores, memory, time."""
