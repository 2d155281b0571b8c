"""Texts of DNS records."""

from __future__ import annotations

import re

import dns.rdata
import dns.zone
from hypothesis import given
from hypothesis import strategies as st

from mail.dnsrecords import (
    dkim_name,
    dkim_text,
    same_dkim_key,
    tags,
    tlsrpt_places,
    tlsrpt_text,
    txt_line,
    txt_strings,
)


@given(st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=2000))
def test_a_text_of_any_length_is_one_record(text: str) -> None:
    strings = txt_strings(text)
    assert "".join(strings) == text
    assert all(len(one) <= 255 for one in strings)
    assert strings
    data = txt_line("x.example", text).split(" IN TXT ", 1)[1]
    found = dns.rdata.from_text("IN", "TXT", data)
    assert b"".join(found.strings).decode() == text  # type: ignore[attr-defined]  # of TXT


def test_the_line_of_a_long_key_is_read_by_others() -> None:
    text = dkim_text("rsa", "A" * 392)
    line = txt_line(dkim_name("20260101r7kq", "ours.example"), text)
    zone = dns.zone.from_text(f"@ 60 IN SOA a b 1 1 1 1 1\n@ 60 IN NS a\n{line}\n", "ours.example.", relativize=False)
    record = zone.find_rdataset("20260101r7kq._domainkey.ours.example.", "TXT")[0]
    assert b"".join(record.strings).decode() == text
    assert len(record.strings) == 2
    assert re.match(r"20260101r7kq\._domainkey\.ours\.example\. 3600 IN TXT \"v=DKIM1; k=rsa; p=A", line)


def test_keys_are_compared_without_blanks() -> None:
    assert same_dkim_key("v=DKIM1; k=ed25519; p=abc=", "abc=")
    assert same_dkim_key("k=rsa; p=a b\tc", "abc")
    assert not same_dkim_key("v=DKIM1; p=", "abc")
    assert not same_dkim_key("v=DKIM2; p=abc", "abc")
    assert not same_dkim_key("", "abc")


@given(st.text(max_size=200))
def test_tags_of_anything(text: str) -> None:
    assert all(name and name == name.strip() for name in tags(text))
    assert all(place.lower().startswith(("mailto:", "https://")) for place in tlsrpt_places([text]))


def test_a_report_record() -> None:
    text = tlsrpt_text("mailto:a@ours.example", "https://r.example/x")
    assert text == "v=TLSRPTv1; rua=mailto:a@ours.example,https://r.example/x"
    assert tlsrpt_places([text]) == ("mailto:a@ours.example", "https://r.example/x")
