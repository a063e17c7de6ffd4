"""The models of the papers: one idea a file, each conv_vae.py with one thing changed."""
