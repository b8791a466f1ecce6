"""The command line: options, checks of what a user gave, errors in one line."""
