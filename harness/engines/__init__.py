"""Where the graph of stages runs."""
