"""The kinds of origins: each a frozen value, built to ingestion.origin.Origin."""
