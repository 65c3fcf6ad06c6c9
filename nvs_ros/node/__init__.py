"""The lifecycle node: parameters, subscriptions, worker, publishers, requests and diagnostics."""
