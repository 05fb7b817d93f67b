"""What one would build instead: a plain Django project with REST framework over the same tables."""
