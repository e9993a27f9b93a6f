"""Columns to accepted records: records = accepted + duplicates + rejected + tombstones."""
