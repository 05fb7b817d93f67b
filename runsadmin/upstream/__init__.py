"""The Assistants API over HTTP. The only package that knows `requests`."""
