"""Stage 3: plan and train a network."""
