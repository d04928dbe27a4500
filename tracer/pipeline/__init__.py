"""From a push to a transaction: the queue, the worker, the store it keeps, and the bridge that asks it."""
