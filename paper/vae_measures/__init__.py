"""What can be measured of a trained model; numbers, no pictures."""
