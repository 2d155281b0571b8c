"""Logs: readable lines on a terminal, JSON elsewhere, and no secret in either.

Everybody takes `log = structlog.get_logger("smtp")` and writes `log.info("delivered", size=…)`. What is not
foreseen (a bug) is `log.exception("…")`: it is counted (`BugCounter`).
"""
