"""Thresholds of the checks, one file per family; together the `audit` section."""
