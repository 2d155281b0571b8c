"""Identity in one MongoDB database, with any number of processes over it.

No process keeps anything that another could change: who decides is read, by _id or by a unique key, for each answer. An
account's document holds all that belongs to it (hashes, app passwords, versions, news not yet told), so signing in
reads one document, and each change of an account is one compare-and-set on its revision, ``rev``. There are no
transactions of many documents. Where a change reaches further, one write is the commit point:

- a **name** is unique over accounts and aliases by one unique index; it is reserved, its domain looked at, and the
  update that makes the reservation an account or an alias commits. A **domain** is removed under a mark that every
  reservation looks at (`names`);
- an **administrator** leaves by a compare-and-set on one small document for all of them, which the last one cannot pass
  (`administrators`); the account's own update commits;
- **tokens** end with the update of their account or of their family: no token is touched for that, since what is newer
  than a token's versions tells (`documents.lives`, `bearer`);
- **news** is committed inside the document that changed, and told after it in one order to all (`news`);
- **guesses** are charged before a password is looked at, by compare-and-set on each counter
  (`identity.shared_guesses`).

On a replica set a read sees what the majority has, and may miss what is being written at that moment. So nothing is
decided by a read alone: a decision is a compare-and-set, or a read after a write of this process, which the server
answers when the majority has that and all before it, also where the write found nothing to change.

What follows the commit point is idempotent, and done by who made the change, by who meets it unfinished, or by the
upkeep of any process (`upkeep`). A process that dies before the commit point has changed nothing that anybody reads.
"""
