"""Tests of what lies in pipeline/definition/."""
