"""OAuth 2.0 access tokens of Google and Microsoft: fetched, kept until they expire, forgotten when refused."""

from connectors.oauth.google import GoogleTokens
from connectors.oauth.microsoft import MicrosoftTokens
from connectors.oauth.tokens import TokenCache, Tokens, forget_all

__all__ = ["GoogleTokens", "MicrosoftTokens", "TokenCache", "Tokens", "forget_all"]
