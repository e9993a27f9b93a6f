"""Tests of what lies in console/."""
