"""A night's steps without Luigi: choose, archive, clean, fold, stage, publish, purge; each may be run again by anybody."""
