"""The checks: one pure function each, grouped by family."""
