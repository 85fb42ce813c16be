"""Stage 2: name every fault of the labels before training time is spent."""
