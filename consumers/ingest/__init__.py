"""From topics to hot files: poll, decode, buffer, plan, write, commit."""
