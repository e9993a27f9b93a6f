"""Arrow and NumPy: columns as arrays of integers, hashes of rows, groups, hash tables."""
