"""What the API accepts and returns, by resource. Input is strict: an unknown name or a wrong type is an error."""
