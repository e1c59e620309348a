"""What the functions and containers of a deployment are made of."""
