"""Tests of what lies in pipeline/log/kafka/."""
