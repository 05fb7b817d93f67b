"""What dies in the middle, and what becomes of it: real processes, killed at named steps and at random moments."""
