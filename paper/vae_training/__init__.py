"""Training: the loop, its checkpoints, several processes, the factory of models, runs and their files."""
