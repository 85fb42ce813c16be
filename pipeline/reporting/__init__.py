"""Pictures and self-contained HTML pages, shared by the stages that report."""
