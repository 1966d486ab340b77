"""Format times for people."""

from datetime import UTC, datetime, timedelta


def humanize_time(at: str) -> str:
    """Format an ISO time in the local time zone: today 14:02, yesterday 14:02, 2026-03-01 14:02."""
    moment, today = datetime.fromisoformat(at).astimezone(), datetime.now(UTC).astimezone().date()
    days = {today: "today", today - timedelta(days=1): "yesterday"}
    return f"{days.get(moment.date(), moment.date().isoformat())} {moment:%H:%M}"
