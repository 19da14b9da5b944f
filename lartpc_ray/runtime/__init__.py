"""Ray, signals, run folders, arguments and process resources."""
