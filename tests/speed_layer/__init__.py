"""Tests of what lies in speed_layer/."""
