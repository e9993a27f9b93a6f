"""Tests of what lies in pipeline/accept/."""
