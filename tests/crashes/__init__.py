"""Tests that kill real processes at named steps and at random moments. Other processes then recover the work."""
