"""Each kind of origin, held against real servers and files."""
