"""Sending through Gmail, Microsoft or any SMTP host, with one configuration for all (docs/connectors.md)."""

from connectors.exceptions import ERROR_SMTP_CONNECTION_FAILED
from connectors.smtp_connector.base import BaseSMTPConnector
from connectors.smtp_connector.basic_connector import BasicSMTPConnector, SMTPConnector
from connectors.smtp_connector.gmail_connector import GmailSMTPConnector
from connectors.smtp_connector.microsoft_connector import MicrosoftSMTPConnector

__all__ = [
    "ERROR_SMTP_CONNECTION_FAILED",
    "BaseSMTPConnector",
    "BasicSMTPConnector",
    "GmailSMTPConnector",
    "MicrosoftSMTPConnector",
    "SMTPConnector",
]
