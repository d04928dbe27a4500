"""Makes what user code hands over safe to keep: checked arguments, snapshots, exceptions, and records of all these."""
