"""Tests of what lies in pipeline/aggregates/."""
