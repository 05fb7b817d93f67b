"""Real processes, killed at named steps and at random moments, and how others recover."""
