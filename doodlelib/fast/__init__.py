"""The same numbers, faster: nothing in here need be read."""
