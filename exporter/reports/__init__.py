"""Progress reports of jobs: untrusted, received through files and a socket."""
