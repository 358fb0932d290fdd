"""Learn how people draw, including when: strokes with time, a sequence VAE, a classifier."""
