"""Tests of what lies in end_to_end/."""
