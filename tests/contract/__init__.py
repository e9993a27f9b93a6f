"""A small world for tests of a store: a log, its fold by the aggregates alone, and a database of its own per example."""
