"""Tests of what lies in simulation/."""
