"""What knows nothing of tasks: errors, durations, the log, what can be closed."""
