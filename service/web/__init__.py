"""HTTP without torch: limits, keys, ids, metrics and problems around the one call to a worker.

    server ──── start, signals, draining, end
     ├ protocol ── HTTP itself: bounds on heads, silence and connections
     └ app ─────── an ASGI app, put together of
        ├ middleware ─ what every request passes, and what becomes of it: exchange, logs, metrics
        ├ problems ─── every error as an answer
        ├ routes ───── what computes: compute (one graph), streams and lines (a graph a line)
        ├ catalogue ── what never changes, remembered
        ├ probes ───── for an operator's machinery
        ├ pages ────── for browsers
        └ openapi ──── the document, with describe, examples and models

``disconnect`` is what ends a computation, ``room`` bounds the bytes held, ``outlet`` takes the log.
"""
