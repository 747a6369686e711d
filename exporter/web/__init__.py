"""The exporter's HTTP server: authentication, routes and limits.

`server` manages connections, `connection` implements HTTP/1.1 on one connection, `access_control` authenticates requests,
`routes` answers them. `config`, `tls` and `reload` implement --web.config.file.
"""
