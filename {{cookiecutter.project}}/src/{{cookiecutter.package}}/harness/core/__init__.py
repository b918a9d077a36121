"""What every room builds on: errors, configuration, paths, commands."""
