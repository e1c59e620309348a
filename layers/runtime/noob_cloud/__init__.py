"""Run a noob tube with the same answer on one core, all cores, a cluster, a queue or a cloud."""
