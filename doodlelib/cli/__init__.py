"""The command line, and notebooks run without a browser."""
