"""Every speed claim, beside its rivals."""
