"""The REST API: the only code that knows Django REST framework. It asks services and shapes what they answer."""
