"""A small world for tests of a store: a log, its fold by the aggregates alone, and what should be served."""
