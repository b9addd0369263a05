"""What devices a node has, one module per vendor."""
