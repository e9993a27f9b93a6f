"""Ground that everything stands on: errors, column types, counts, crash points, timings, memory. Imports nothing of ours."""
