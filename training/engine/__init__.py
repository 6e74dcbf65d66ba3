"""What happens while a model trains: steps, gradients, optimizers, schedules, validation."""
