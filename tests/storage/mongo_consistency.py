"""A swept database of the MongoDB adapter: all is as ``mongo_documents`` says, and nothing is left over."""

from __future__ import annotations

from tests.storage import mongo_documents
from tests.storage.mongo_store import Store

UNNAMED = "a blob that nobody names"


async def problems(store: Store, *, unnamed: int = 0) -> list[str]:
    """What is wrong; unnamed: so many staged bodies wait for a message that names them."""
    found = await mongo_documents.problems(store.mongo, swept=True)
    waiting = [one for one in found if one.startswith(UNNAMED)]
    others = [one for one in found if not one.startswith(UNNAMED)]
    return others + (waiting if len(waiting) != unnamed else [])
