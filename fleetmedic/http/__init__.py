"""HTTP/1.1 for processes of this project: a small server with limits, and a client."""
