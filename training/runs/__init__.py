"""What makes a run and what is left of it: recipes, the run folder, checkpoints, weights, teachers."""
