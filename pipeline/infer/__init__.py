"""Stage 4: predict label maps for a folder of images."""
