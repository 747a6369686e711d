"""What jobs say of themselves: untrusted reports, from files and over a socket."""
