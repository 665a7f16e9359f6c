"""The shortest way for scripts: plain loops and blocks over what runs in tasks."""
