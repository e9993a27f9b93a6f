"""What Postgres serves, held against the log: `watershed audit`."""
