"""What each command does once its arguments are parsed: models, measures and pictures put together."""
