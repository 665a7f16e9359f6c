"""Calls that block, in threads or in other processes."""
