"""The pictures that only level 3 has: arrays and evaluations in, figures out."""
