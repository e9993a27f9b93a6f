"""Answers of Postgres, held against the log: `watershed audit`."""
