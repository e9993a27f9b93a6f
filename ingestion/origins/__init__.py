"""One module a kind of origin; each builds to `ingestion.origin.Origin`, and imports its own libraries when it reads."""
