"""Loads: the rows of an origin and the version before become the next version of a table."""
