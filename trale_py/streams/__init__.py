"""Descriptors that tasks wait for."""
