"""Loads of tables: each mode, its checks and comparisons, against plain ones."""
