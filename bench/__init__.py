"""The benchmark: what a user would pick instead, side by side with us, against the same quick upstream."""
