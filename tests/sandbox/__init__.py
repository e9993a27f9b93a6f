"""Tests of what lies in sandbox/."""
