"""The doctor: what must hold for every VAE, tested on a model or on a file of your own."""
