"""What is measured of a case in one pass; the checks judge these numbers."""
