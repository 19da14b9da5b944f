"""Terminal output of the commands: errors, progress, tables."""
