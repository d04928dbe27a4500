"""From a push to a transaction: the queue, the worker with its store, and the bridge that asks the worker."""
