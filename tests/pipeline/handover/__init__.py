"""Tests of what lies in pipeline/handover/."""
