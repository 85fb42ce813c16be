"""Runs stages: what is missing first, with logs, tracking and a record of how it went."""
