"""How bytes travel: sockets, sessions, request ids. Nothing here knows of rows."""
