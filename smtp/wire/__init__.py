"""Pure: the octets and words of SMTP, without sockets."""
