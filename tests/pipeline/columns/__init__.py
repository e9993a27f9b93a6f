"""Tests of what lies in pipeline/columns/."""
