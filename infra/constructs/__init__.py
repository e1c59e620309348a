"""Parts that stacks are made of: each exposes what it made, the stack wires and grants."""
