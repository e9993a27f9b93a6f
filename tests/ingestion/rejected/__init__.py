"""Rejected rows of loads and feeds: which are open, and their replay."""
