"""Parts of the audit report, one file per section."""
