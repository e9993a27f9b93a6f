"""Tests of what lies in project/."""
