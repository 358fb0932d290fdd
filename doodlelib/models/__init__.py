"""The three models: sketch VAE, retimer, classifier."""
