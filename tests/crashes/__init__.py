"""Real processes are killed at named steps and at random moments, and others recover their work."""
