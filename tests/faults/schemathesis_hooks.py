"""What schemathesis has to know to send our media types: it is loaded by its command line."""

from __future__ import annotations

from typing import Any

import schemathesis


@schemathesis.serializer("application/x-ndjson")
def lines(_: schemathesis.SerializationContext, value: Any) -> bytes:
    """Return a stream of lines as bytes: what is generated is their text."""
    return value if isinstance(value, bytes) else str(value).encode(errors="surrogatepass")
