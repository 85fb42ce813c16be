"""One module per way in which dataset folders are laid out."""
