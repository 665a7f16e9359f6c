"""What tasks do with time."""
