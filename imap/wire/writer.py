"""Responses as octets (RFC 3501 §7). Every function returns whole lines with their CRLF unless it says otherwise.

tagged(tag, "OK", text, code=None) · untagged("OK"|"NO"|"BAD"|"BYE"|"PREAUTH", text, code=None) · continuation(text)
data(b"SEARCH 1 2")                  -> b"* SEARCH 1 2\r\n"
numbered(3, b"EXISTS")               -> b"* 3 EXISTS\r\n";  expunges([5, 3, 3]) -> many EXPUNGE lines
astring(str|bytes) quoted/atom/literal; nstring; string; mailbox(name) (modified UTF-7)
flag_list(flags: Iterable[bytes|str]) -> b"(\\Seen x)"
fetch(seq, items: Iterable[bytes]) -> b"* 3 FETCH (…)\r\n"  items such as b"UID 7", b"ENVELOPE (…)"
fetch_flags(rows: Iterable[tuple[int seq, int uid, bytes flags]], with_uid) -> bytes   bulk
literal_head(size) -> b"{310}\r\n"  for streamed bodies: fetch_open(seq, items, label, size) … fetch_close()
list_line("LIST"|"LSUB", attributes, delimiter, name) ; status_line(name, [(item, n)]) ; search_line(numbers)
"""
