"""The other side of the node, for tests and benchmarks: a robot in the graph, messages gone bad."""
