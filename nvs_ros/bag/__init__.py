"""Bags: replay one into the graph, process one without any graph."""
