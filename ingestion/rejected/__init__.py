"""Rows that loads and feeds rejected: how they are kept, where they are listed, and how they are taken through after a mend."""
