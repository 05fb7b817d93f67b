"""The REST API: the only code that knows Django REST framework. A view calls one service and represents the result."""
