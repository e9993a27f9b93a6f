"""What a user declares, checked when it is constructed: record, source, view, window; and its fingerprint."""
