"""Pictures: one style, charts (arrays in, a Figure out), and which of them every level draws of what it measured."""
