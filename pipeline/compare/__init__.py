"""Command `compare`: which of several runs is better on the same cases, and how sure that is."""
