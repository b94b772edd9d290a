//! Message heads, header list, body framing and the HTTP/1 codec; no sockets.
