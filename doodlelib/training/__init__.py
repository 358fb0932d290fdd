"""Training: the loop, its state on disk, models and batches for a store."""
