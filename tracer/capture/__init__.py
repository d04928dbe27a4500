"""What user code hands over, made safe to keep: checked arguments, snapshots, exceptions, and the records of it."""
