"""What the three levels share: the spec, weights files, data, figures and command-line habits."""
