"""Tests of what lies in tasks/."""
