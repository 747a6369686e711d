"""The HTTP side of the exporter: who may ask, what is answered, and within which bounds.

`server` owns connections, `wire` speaks HTTP/1.1 on one of them, `gate` lets a request in, `routes`
answers it. `config`, `tls` and `reload` are the file behind --web.config.file.
"""
