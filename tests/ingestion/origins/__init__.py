"""Tests of what lies in ingestion/origins/."""
