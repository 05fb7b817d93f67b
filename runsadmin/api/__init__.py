"""The REST API: the only code that uses Django REST framework. A view calls one service and represents the result."""
