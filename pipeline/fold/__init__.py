"""Accepted records to states and values: derive, filter, lift, merge, present."""
