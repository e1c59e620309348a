"""The wholes that are deployed, one Stack a file, in the order of the flow."""
