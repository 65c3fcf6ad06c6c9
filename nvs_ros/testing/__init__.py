"""Help for tests and benchmarks: a robot that uses the node, malformed messages, golden data."""
