"""Tests of what lies in pipeline/lake/."""
