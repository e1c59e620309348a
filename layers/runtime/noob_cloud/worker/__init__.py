"""What runs tasks: execute one call, claim from a queue, serve over HTTP."""
