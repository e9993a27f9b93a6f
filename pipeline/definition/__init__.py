"""Definitions of a user, checked when they are constructed: record, source, view, window; and their fingerprints."""
