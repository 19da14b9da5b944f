"""Events: read, check, transform and load them."""
