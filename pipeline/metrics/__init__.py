"""Numbers about two label maps. No torch, no files."""
