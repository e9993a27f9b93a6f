"""Bytes to columns: decode(block) equals decoding its records one by one."""
