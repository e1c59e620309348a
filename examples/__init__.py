"""Examples of noob-cloud: run them from the project's root folder, so that `examples` imports."""
