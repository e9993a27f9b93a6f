"""Tests of what lies in serving/generations/."""
