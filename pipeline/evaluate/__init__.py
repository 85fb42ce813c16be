"""Stage 5: score predictions against reference labels."""
