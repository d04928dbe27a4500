"""Pure interpretation."""
