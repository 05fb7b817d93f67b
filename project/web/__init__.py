"""The web server: waitress, with limits on slow clients, in several processes that share a socket."""
