"""SEARCH through the port: exactly the messages that match. (The query's own grammar is tested with the adapter.)"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from storage.model import (
    ALL_UIDS,
    All,
    And,
    BodyContains,
    DateField,
    DateRange,
    HasFlags,
    HasKeyword,
    HeaderContains,
    ModseqFrom,
    NewMessage,
    Not,
    Or,
    SizeRange,
    TextContains,
    Uids,
)
from storage.port import Reason, Refused


async def test_every_kind_of_key(bench: Any, flat: Any) -> None:
    ref = await bench.ref()
    date = b"Date: Mon, 20 Nov 2023 23:30:00 -0500\r\n"
    texts = ["apples", "pears", "Äpfel", "apples and pears"]
    messages = [
        NewMessage(
            (date if n == 1 else b"") + bench.message(text) + b"z" * (100 * n),
            n,
            ("Work",) if n == 2 else (),
            86400 * n,
        )
        for n, text in enumerate(texts)
    ]
    appended = await bench.store.append(bench.op(), ref, messages, None)
    await bench.fill(1, "Sent")
    day = 1700438400  # 2023-11-20 00:00 UTC
    for query, expected in (
        (All(), [1, 2, 3, 4]),
        (Uids(((2, 3), (9, 9))), [2, 3]),
        (HasFlags(1), [2, 4]),
        (HasKeyword("work"), [3]),
        (Not(HasKeyword("none")), [1, 2, 3, 4]),
        (DateRange(DateField.INTERNAL, 86400, 3 * 86400), [2, 3]),
        (DateRange(DateField.SENT, day, day + 86400), [2]),
        (DateRange(DateField.SAVED, int(bench.clock.now()), None), [1, 2, 3, 4]),
        (SizeRange(len(messages[1].content), None), [3, 4]),
        (HeaderContains("subject", "APPLES"), [1, 4]),
        (HeaderContains("Date", ""), [2]),
        (BodyContains("pears"), [2, 4]),
        (TextContains("äPFEL"), [3]),
        (TextContains("eve@example.net"), [1, 2, 3, 4]),
        (ModseqFrom(appended.modseq + 1), []),
        (And((HasFlags(2), Or((BodyContains("äpfel"), BodyContains("zzz"))))), [3, 4]),
        (Or(()), []),
        (And(()), [1, 2, 3, 4]),
    ):
        found = await bench.store.search(ref, query)
        assert flat(found.uids) == expected, query
        assert found.highest_modseq == appended.modseq
    await bench.store.move(bench.op(), ref, ((1, 1),), "Sent")
    assert flat((await bench.store.search(ref, TextContains("apples"))).uids) == [4]
    with pytest.raises(Refused) as refused:
        await bench.store.search(replace(ref, mailbox="M999"), All())
    assert refused.value.reason is Reason.NO_SUCH_MAILBOX


async def test_a_swept_message_is_not_found(bench: Any) -> None:
    ref = await bench.fill(3, flags=8)
    await bench.store.expunge(bench.op(), ref, ((2, 2),))
    bench.clock.advance(3601)
    await bench.store.sweep()
    assert (await bench.store.search(ref, TextContains("eve"))).uids == ((1, 1), (3, 3))
    assert (await bench.store.search(ref, Uids(ALL_UIDS))).uids == ((1, 1), (3, 3))
