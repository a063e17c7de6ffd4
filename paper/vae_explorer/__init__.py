"""The explorer page: its template, the network and the page in JavaScript, and what puts a trained model inside."""
