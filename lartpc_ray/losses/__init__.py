"""Loss functions, one file per task."""
