"""Networks: how they are built, trained against, swept over a volume and stored."""
