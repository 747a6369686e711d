"""Receives progress reports of jobs in files and over a socket. Reports are untrusted."""
