"""What of our dialogues Dovecot is not asked, and where it answers otherwise, with the reasons."""

from __future__ import annotations

NEGATIVE_PARTS = "it has PARTIAL of RFC 5267 alone: not from the end, and not in FETCH (RFC 9394 §3.1, §3.3)"
NOT_ASKED = {
    "append a7": "our own limit: Dovecot would take the literal",
    **dict.fromkeys(("imap4rev2", "utf8_accept"), "Dovecot 2.3 is an IMAP4rev1 server without UTF8=ACCEPT"),
    "fuzzy": "Dovecot 2.3 has FUZZY with a full-text index alone, and matches by that index's rules",
    "catenate b9": "our own limit: Dovecot would take the literal",
    "masked": "capabilities that an account of ours is not offered",
    "message_limit": "Dovecot 2.3 has no MESSAGELIMIT",
    "quota_set": "limits of accounts of ours, which that Dovecot has not",
    "replace": "Dovecot 2.3 has no REPLACE",
    "uidonly": "Dovecot 2.3 has no UIDONLY",
    "uidonly_office": "Dovecot 2.3 has no UIDONLY",
    "multiappend a4": "it reads the literal that is refused as commands",
    "multiappend a5": "it goes on waiting for a literal that was refused here",
    "multiappend a6": "our own limit: Dovecot would take the literal",
    "bad_commands": "our own limit, and another sentence for each command",
    "literal_before_sign_in": "our own limit",
    "literals": "our own limits",
    **{f"partial {tag}": NEGATIVE_PARTS for tag in ("b3", "b4", "b6", "b8", "e0", "e1", "e2", "e3", "e4")},
    "in_progress": "Dovecot 2.3 has no INPROGRESS",
    "sign_in_disabled": "that Dovecot takes passwords in the clear",
    **dict.fromkeys(
        ("sign_in_bearer", "sign_in_oauthbearer", "sign_in_xoauth2"),
        "tokens of our own, which that Dovecot has nobody to ask about",
    ),
    "sign_in_slowed": "an identity of its own, which asks for a pause after a certain password",
}
"""Dialogue, or one answer of it → what it is about, so that the same question to Dovecot has no meaning."""


RECENT = "It tells RECENT anew after EXPUNGE; we tell it with EXISTS (RFC 3501 §7.3.2 leaves it to the server)."
NO_TARGET = "Of a UID that there is not it copies nothing, whatever the target; we say that the target is missing."
BINARY = "It keeps NUL; we refuse until it can be shown in a form that the wire has (RFC 3516 §4.3)."
OLD_PEEK = "It does not have the PEEK items of RFC 1730, which Outlook sends."
LITERAL8 = "It sends all that it decoded as literal8; we as a literal where there is no NUL (RFC 9051 §7.5.2: SHOULD)."
LINE_ENDS = "It leaves a bare LF in decoded text; we send CRLF (RFC 9051 §7.5.2: MUST)."
ALL_SIZES = "A part of unknown encoding makes it refuse the sizes of the others too."
BEFORE_REFUSAL = "Before it refuses, it tells what else was asked for; we tell nothing of that message."
UNREAD = "It sets \\Seen where it refuses the part, too; we do not, since nobody has read it."
INSIDE = "It decodes the parts inside an enclosed message, and changes their headers; we give it as it is."
NO_SECTION = "It parses more than section-binary (RFC 9051 §9)."
NO_SUCH_PART = "It answers with an empty string, or the part itself, for a section that there is not; we with NIL."
FLAGS_FIRST = "It tells flags that change by the fetch before the body, we after it (RFC 3501 §7.4.2 has no order)."
SUPERIORS = "We make the mailboxes above a new one (RFC 3501 §6.3.3: SHOULD); there they stay names that hold others."
NO_CODE = "It refuses with a sentence alone, we with a response code of RFC 5530 too."
PATHS = "Its mailboxes are folders, so that it takes no name with dots as a level; to us it is a name like others."
UNKNOWN_CHARSET = "With BADCHARSET it names no charsets that it knows (RFC 3501 §7.1: optional)."
NO_THREADS = "With no thread it writes a space behind THREAD, where the grammar has none (RFC 5256 §5)."
RANGE_AS_ASKED = "We answer with the range as the client wrote it (RFC 9394 §3.1), it puts the smaller number first."
REVERSE_TWICE = "REVERSE twice is no criterion by the grammar (RFC 5256 §5); it takes it as twice turned."
CHARSETS = "It converts many charsets by its system's iconv; we have US-ASCII and UTF-8."
MODSEQ_PLACE = (
    "MODSEQ and the other items stand in another order (RFC 3501 §7.4.2 has none), or on a line of their own."
)
MODSEQ_UID = "With QRESYNC alone it tells the UID too; we with CONDSTORE as well (RFC 7162 §3.2.4)."
MODSEQ_SAME = "Of a message that STORE left as it was it tells nothing; we tell its sequence (RFC 7162 §3.1.3)."
MODSEQ_LARGE = "It takes modification sequences of 64 bits; RFC 7162 §7 has 63."
ENABLED_AGAIN = "We name what this ENABLE enabled (RFC 5161 §3.1), it what is so anyway."
FOLDERS = "There a name is subscribed only if it exists, and what is above others exists only if it was made."
CHILDREN = "It tells children where it is asked for them, we always (RFC 5258 §4)."
USES = "It keeps no special use, and ignores parameters of CREATE that it does not know."
TAKEN_BEFORE = "It kept what we refused (NUL, text behind a literal)."
NO_SUCH_NUMBER = (
    "A number that there is not matches nothing there; we say BAD (RFC 3501 §9, seq-number), as it does in FETCH."
)
READ_ONLY = "In a mailbox opened by EXAMINE it does nothing, and says OK; we say that it is read-only."
OWN_DELETED = "It ends the connection that deletes its selected mailbox; we leave the selected state (RFC 3501 §3.3)."
DELIMITER_AT_END = "It knows no name that ends with the delimiter; we leave it away, as CREATE does (RFC 3501 §6.3.3)."
RECENT_FLAG = "\\Recent cannot be stored: we pass over it, it says BAD (RFC 3501 §2.3.2 forbids only the change)."

CUT_URL = 'Of a URL with "]", which BADURL cannot have (RFC 4469 §5), it tells what stands before; we put "?" there.'
EMPTY = "It makes a message without octets; to us that takes the command back (RFC 3502 §6.3.11)."
READ_ON = "It reads what stands behind its error as one more command."

AS_LITERAL = "It sends every value as a literal, we as a quoted string where that may be (RFC 5464 §5)."
OPTIONS_BEHIND = "Options of GETMETADATA behind the mailbox, as old clients write them, are BAD there (RFC 5464 §5)."
NUL_IN_VALUE = "It keeps no value with NUL, which a literal8 may have (RFC 5464 §5), and has another code for it."
OF_SERVER = "What its server says of itself to all is for its configuration."
ENTRY_TWICE = "It takes names and options twice, the last of which counts or nothing does."
TOP_ENTRY = "/shared itself has a value there; to us the name of an entry has one more component (RFC 5464 §3.2.1)."
INBOX_STAYS = "It does not rename INBOX (RFC 3501 §6.3.5), so that there is nothing to annotate."
NO_LIST_METADATA = "Dovecot 2.3 has no LIST-METADATA."

RIGHTS_IN_ORDER = "It tells identifiers and single rights in another order (RFC 4314 §3.6, §3.7 have none)."
OWNERS_RIGHTS = "It lets an owner's rights be changed; ours has all of them always (RFC 4314 §3.4: required rights)."
EMPTY_ENTRY = "An identifier without any right stays in its list (RFC 4314 §3.1 leaves it to the server)."
ANY_NAME = "It takes any name as an identifier, also of nobody."
RIGHTS_OF_NOTHING = "It tells the rights that one would have to a mailbox that is not there."

ANSWERS_ID = "Each tells its own name."
SIGNED_OUT_ENABLE = "It takes ENABLE before the sign-in; RFC 5161 §3.1 has it in the authenticated state alone."
UNTAGGED_LIST = "After LOGIN it tells capabilities on a line of their own, we in the response code (RFC 3501 §6.2.3)."
EMPTY_ENABLED = "Where nothing was enabled it leaves ENABLED away (RFC 5161 §3.2 has it: at most one)."
ARGUMENT_IGNORED = "It passes over an argument that the command does not have."
WRONG_IS_NO = "An argument that it does not know is NO there, BAD here."
SASL_FAILURES = "To it a malformed SASL message is a failed sign-in, to us BAD (RFC 3501 §6.2.2)."
COMPRESSED_TWICE = "It says NO to a second COMPRESS, which is for compression by another layer (RFC 4978 §3)."
MECHANISM = "A mechanism that is not offered: it has no response code but ALERT."

NO_OBJECTS = "Dovecot 2.3 has no OBJECTID."
NO_LIMIT_TOLD = "Dovecot 2.3 has no APPENDLIMIT."
NO_DELETED = "Dovecot 2.3 has neither DELETED nor DELETED-STORAGE (RFC 9051 §6.3.11, RFC 9208 §4.1.4)."
LATER_PREVIEW = "LAZY finds only previews that were asked for before, there; ours are made at delivery."
PREVIEW_MODIFIER = "It takes what stands in parentheses behind PREVIEW for its modifiers; we see that it is FETCH's."

USE_WHERE_ASKED = "It tells the special use only by RETURN (SPECIAL-USE), or by a LIST without options (RFC 6154 §2)."
USE_IN_LSUB = "It tells the special use by LSUB too."

SAVED_ALONE = "It takes $ alone; a set may end with it (RFC 9051 §9, sequence-set)."

LIMIT_UNREAD = "SETQUOTA is refused there before its arguments are read."

NO_GLOBAL = "It does not know message/global as a message (RFC 9051 §7.5.2), which came with IMAP4rev2."

BADEVENT_OTHER = "BADEVENT names what it does not know, there; RFC 5465 §5 has what is known, as we tell."
LOOSE_SETS = "It takes sets of events that RFC 5465 §5 forbids, and leaves away what it does not know."
STATUS_ITEMS = "Of a changed mailbox it tells all that changed, and no UIDVALIDITY where that has not (RFC 5465 §5.2)."
NO_METADATA_EVENTS = "It has no events of METADATA."
NAMES_APART = "Without children, each inferior by itself, what was renamed also as gone, and some of it a change later."
WITH_A_COMMAND = "Changes of the selected mailbox are told with the next command or in IDLE, not at once."
FROM_OTHERS = "Of mailboxes of other users it tells nothing before they are opened."
METADATA_RIGHTS = "It lets all who may read the mailbox change a shared annotation; RFC 5464 §3.3 asks for `w` besides."
NONE_IS_SILENT = "After NOTIFY NONE it tells of the new message with NOOP."

FLAGS_OF_MAILBOX = "FLAGS has keywords of the mailbox that no message has any more; ours has those in use."
SET_WITHOUT_RIGHT = "A flag for which the right is missing it passes over, and says OK (RFC 4314 §4: SHOULD NOT fail)."
SEEN_TOLD = "It tells \\Seen with the body though it was not kept, the right for it missing."
KEPT_FLAGS = "Flags for which the right is missing stay through STORE FLAGS; we tell so, it does not."
RIGHTS_AFTERWARDS = (
    "Of rights that have changed it tells nothing unasked (RFC 5465 §5.4, RFC 4314 §5.1.1 leave it to the server)."
)
EXPUNGE_WITHOUT_RIGHT = "EXPUNGE without the right expunges nothing and is OK, here NO."
OWNER_UNSAID = "Its ACL says nothing of the owner, whose rights we tell first; the letters are in another order."
NOSELECT_LOOKUP = "A mailbox that may be looked up alone is \\Noselect here."
ANCESTORS = "It lists the levels above a mailbox that may not be looked up."
NO_LIST_MYRIGHTS = "Dovecot 2.3 has no LIST-MYRIGHTS."
READ_ONLY_BY_RIGHTS = "What may be read alone is not changed, and the command says OK; we say that it is read-only."
FLAGS_TOLD = "It tells FLAGS anew when a keyword is new to the mailbox, also by APPEND."

EXPLAINED: dict[str, str] = {
    **{f"any_state {tag}": ANSWERS_ID for tag in ("a3", "a4")},
    "any_state a7": SIGNED_OUT_ENABLE,
    "any_state a8": UNTAGGED_LIST,
    "any_state b1": EMPTY_ENABLED,
    "any_state b6": ARGUMENT_IGNORED,
    "compress a3": WRONG_IS_NO,
    "compress a7": COMPRESSED_TWICE,
    "ids_sizes_previews a41": NO_DELETED,
    "ids_sizes_previews a5": NO_LIMIT_TOLD,
    "ids_sizes_previews a9": LATER_PREVIEW,
    "ids_sizes_previews b1": PREVIEW_MODIFIER,
    **{f"ids_sizes_previews {tag}": NO_OBJECTS for tag in ("a6", "b3", "b4", "b5", "b6")},
    "list_extended c1": USE_WHERE_ASKED,
    "mailboxes c3": USE_IN_LSUB,
    "mime_forms a3": NO_GLOBAL,
    "mime_forms a4": NO_GLOBAL,
    "move_within a5": RECENT,
    "move_within a7": RECENT,
    "notify_refused a1": BADEVENT_OTHER,
    **{f"notify_refused {tag}": LOOSE_SETS for tag in ("a2", "a3", "a5", "a7", "a9")},
    "notify b1": STATUS_ITEMS,
    **{f"notify {tag} news": STATUS_ITEMS for tag in ("c2", "c3", "c5", "c6", "c7")},
    "notify_names b31": NO_METADATA_EVENTS,
    **{f"notify_names {tag} news": NO_METADATA_EVENTS for tag in ("d5", "d6")},
    **{f"notify_names {tag} news": NAMES_APART for tag in ("d1", "d2", "d3", "d4", "d7", "d8")},
    "notify_names b6": SUPERIORS,
    "notify_names b7": SUPERIORS,
    **{f"notify_selected {tag} news": WITH_A_COMMAND for tag in ("f1", "f3", "f7")},
    "notify_selected e3": WITH_A_COMMAND,
    "notify_selected h1": NONE_IS_SILENT,
    **{f"notify_first_share {tag} news": RIGHTS_AFTERWARDS for tag in ("a2", "a3")},
    "notify_shared b1": FROM_OTHERS,
    "notify_shared a6 news": FROM_OTHERS,
    "notify_shared b11": NO_METADATA_EVENTS,
    "notify_shared a7 news": NO_METADATA_EVENTS,
    "notify_shared b2": AS_LITERAL,
    "notify_shared a8": AS_LITERAL,
    "notify_shared b4": METADATA_RIGHTS,
    "notify_shared b5": METADATA_RIGHTS,
    "notify_shared b7": NO_CODE,
    "notify_shared b8": NO_LIST_METADATA,
    **{f"notify_shared {tag} news": RIGHTS_AFTERWARDS for tag in ("a9", "c1", "c2", "c3")},
    "quota a5": NO_DELETED,
    "quota a6": NO_DELETED,
    "quota a7": NO_DELETED,
    "quota b71": NO_CODE,
    "quota b8": NO_CODE,
    **{f"quota {tag}": LIMIT_UNREAD for tag in ("c2", "c3", "c4")},
    "rights b2": SEEN_TOLD,
    "rights b5": KEPT_FLAGS,
    "rights b6": KEPT_FLAGS,
    "rights b7": SET_WITHOUT_RIGHT,
    "rights d4": SET_WITHOUT_RIGHT,
    "rights b9": EXPUNGE_WITHOUT_RIGHT,
    **{f"rights {tag}": FLAGS_OF_MAILBOX for tag in ("c5", "c6", "e21", "h1")},
    **{f"rights {tag}": RIGHTS_AFTERWARDS for tag in ("d2", "e2", "h21 news", "h4 news")},
    "rights d3": FLAGS_FIRST,
    "rights f2": ANCESTORS,
    "rights f3": NO_CODE,
    "rights g2": OWNER_UNSAID,
    "rights g3": OWNERS_RIGHTS,
    "shared b1": NOSELECT_LOOKUP,
    "shared b4": NOSELECT_LOOKUP,
    **{f"shared {tag}": NO_LIST_MYRIGHTS for tag in ("b5", "b9", "c2")},
    "shared b6": CHILDREN,
    **{f"shared {tag}": NO_CODE for tag in ("c8", "c9", "d1", "d2", "d6")},
    "shared e5": NO_CODE,
    "shared f3": READ_ONLY_BY_RIGHTS,
    "shared f4": READ_ONLY_BY_RIGHTS,
    "shared f7": READ_ONLY_BY_RIGHTS,
    "shared g5": FLAGS_TOLD,
    **{f"shared {tag}": RECENT for tag in ("g6", "g7", "h2")},
    "sign_in a5": SASL_FAILURES,
    "sign_in a6": SASL_FAILURES,
    "sign_in a7": MECHANISM,
    "sign_in a8": SASL_FAILURES,
    "starttls a5": UNTAGGED_LIST,
    **{f"acl {tag}": RIGHTS_IN_ORDER for tag in ("a7", "b1", "b6", "b8")},
    "acl b5": EMPTY_ENTRY,
    "acl e5": ANY_NAME,
    **{f"acl {tag}": OWNERS_RIGHTS for tag in ("b7", "c1", "c2", "c3")},
    "acl d4": ANY_NAME,
    "acl d8": RIGHTS_OF_NOTHING,
    **{f"metadata {tag}": AS_LITERAL for tag in ("a3", "a4", "a7", "a8", "c5", "f5")},
    "metadata a9": OPTIONS_BEHIND,
    **{f"metadata {tag}": NUL_IN_VALUE for tag in ("b4", "b5", "b6")},
    **{f"metadata {tag}": OF_SERVER for tag in ("c2", "c3", "c4")},
    "metadata d1": NO_CODE,
    "metadata d2": NO_CODE,
    "metadata d5": TOP_ENTRY,
    "metadata d6": ENTRY_TWICE,
    "metadata d8": ENTRY_TWICE,
    "metadata e3": SUPERIORS,
    **{f"metadata {tag}": INBOX_STAYS for tag in ("f3", "f4")},
    "metadata e4": NO_LIST_METADATA,
    "metadata e6": NO_LIST_METADATA,
    "append b3": BINARY,
    "catenate b3": NO_SUCH_PART,
    "catenate b7": CUT_URL,
    "catenate b8": EMPTY,
    "catenate c3": READ_ON,
    "catenate c4": READ_ON,
    "catenate c6": TAKEN_BEFORE,
    "catenate c7": TAKEN_BEFORE,
    "catenate c8": TAKEN_BEFORE,
    "binary a3": ALL_SIZES,
    **{f"binary {tag}": LITERAL8 for tag in ("a4", "a6", "a7", "a8", "b0")},
    "binary a9": LINE_ENDS,
    "binary b1": BEFORE_REFUSAL,
    "binary b2": BEFORE_REFUSAL,
    "binary b3": NO_SUCH_PART,
    "binary b5": INSIDE,
    "binary b51": UNREAD,
    "binary b52": UNREAD,
    "binary b6": FLAGS_FIRST,
    "binary b8": NO_SECTION,
    "binary b9": NO_SECTION,
    "binary c2": BINARY,
    "binary c3": BINARY,
    "copy_move a71": NO_TARGET,
    "copy_move a72": NO_TARGET,
    "copy_move a8": RECENT,
    "copy_move a9": RECENT,
    "copy_move b3": RECENT,
    "esearch a8": RECENT,
    "esearch d7": RECENT,
    **{f"esearch {tag}": SAVED_ALONE for tag in ("d91", "d93")},
    "esearch e1": UNKNOWN_CHARSET,
    "fetch b9": NO_SUCH_PART,
    "fetch c3": FLAGS_FIRST,
    "fetch d2": FLAGS_FIRST,
    **{f"fetch {tag}": OLD_PEEK for tag in ("d22", "d23")},
    **{f"mailboxes {tag}": SUPERIORS for tag in ("a4", "a5", "a6", "a7", "a8", "b2")},
    **{f"mailboxes {tag}": NO_CODE for tag in ("b5", "c8", "d2")},
    **{f"mailboxes {tag}": DELIMITER_AT_END for tag in ("c41", "c42", "c43")},
    "mailboxes d4": PATHS,
    "mailboxes d5": PATHS,
    "partial b0": RECENT,
    "partial b5": RANGE_AS_ASKED,
    "search b9": CHARSETS,
    "search d2": NO_SUCH_NUMBER,
    "condstore a7": MODSEQ_PLACE,
    "condstore a8": MODSEQ_SAME,
    "condstore b2": MODSEQ_LARGE,
    "condstore b6": MODSEQ_SAME,
    "condstore b7": MODSEQ_SAME,
    "condstore b8": MODSEQ_UID,
    "condstore c1": MODSEQ_PLACE,
    "condstore c2": MODSEQ_PLACE,
    "condstore c4": MODSEQ_UID,
    "condstore c5": RECENT,
    "condstore c7": RECENT,
    **{f"list_extended {tag}": FOLDERS for tag in ("a5", "a6", "a7", "a8", "a9", "b1", "b2", "b9", "c2", "c4")},
    **{f"list_extended {tag}": CHILDREN for tag in ("b8", "d1", "d5")},
    **{f"list_extended {tag}": USES for tag in ("d2", "d4", "d6", "d7", "d9")},
    "multiappend abc": BINARY,
    "multiappend a9": TAKEN_BEFORE,
    "multiappend b1": TAKEN_BEFORE,
    "qresync a8": RECENT,
    "qresync b4": RECENT,
    "qresync b9": ENABLED_AGAIN,
    "select a4": READ_ONLY,
    "select a5": READ_ONLY,
    "select a6": FLAGS_FIRST,
    "select b2": NO_CODE,
    "select b9": OWN_DELETED,
    "sort c5": UNKNOWN_CHARSET,
    "sort c7": REVERSE_TWICE,
    "sort d1": NO_SUCH_NUMBER,
    "sort e7": UNKNOWN_CHARSET,
    "sort f1": RECENT,
    "store b4": RECENT_FLAG,
    "thread b4": NO_THREADS,
    "thread b5": NO_THREADS,
    "thread b8": UNKNOWN_CHARSET,
    "thread f1": RECENT,
}
"""Dialogue and tag → why Dovecot's answer is not ours. An entry that no longer differs fails the test."""


AT_TIMES = {
    **{f"notify_names {tag}": NAMES_APART for tag in ("b4", "b5", "b8", "h2")},
    **{f"notify_selected {tag}": WITH_A_COMMAND for tag in ("f2", "f4 news", "e4", "e5", "e6", "f9")},
}
"""The same of what differs only where Dovecot looked late."""
UNTOLD = frozenset((NO_METADATA_EVENTS, RIGHTS_AFTERWARDS, FROM_OTHERS, WITH_A_COMMAND))
"""Reasons why something is not told unasked, so that nothing is waited for."""
NOT_EQUAL = {"ID": ANSWERS_ID}
"""Capability that both have → why no answer that shows it is the same."""
