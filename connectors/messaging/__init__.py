"""Sending and reading through one kind of connector each: "smtp", "gmail", "imap", "gmail_imap"."""

from connectors.messaging.base import MessagingConnector
from connectors.messaging.imap import GmailIMAPConnector, IMAPConnector
from connectors.messaging.smtp import GmailConnector, SMTPConnector

__all__ = ["GmailConnector", "GmailIMAPConnector", "IMAPConnector", "MessagingConnector", "SMTPConnector"]
