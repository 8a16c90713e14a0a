//! Connections: accepting, TLS, HTTP/1.1 and h2, and an orderly end.
