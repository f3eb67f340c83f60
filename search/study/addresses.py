"""Addresses of stores and servers: a password in one would end up in files, logs and messages, so none may have one."""

from urllib.parse import parse_qsl, urlsplit

_SECRET = {"password", "passwd", "pwd", "passphrase", "sslpassword", "token", "access_token", "api_key", "secret"}


def without_password(address: str) -> str:
    """Return an address that has no password.

    Args:
        address: The URL of a store or a server, or a path.

    Raises:
        ValueError: It has one; the message does not repeat it.
    """
    try:
        parts = urlsplit(address)
        secret = parts.password is not None or any(name.lower() in _SECRET for name, _ in parse_qsl(parts.query))
    except ValueError:
        raise ValueError("must be an address, got one that cannot be read") from None
    if secret:
        raise ValueError(
            "must have no password in it, since it is shown and kept with the study; use PGPASSWORD or ~/.pgpass for "
            "PostgreSQL, MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD for MLflow"
        )
    return address
