"""Schedulers: each decides from the results so far which trials train on."""
