"""The least that FastAPI can do: read a body and answer with a constant."""

from __future__ import annotations

from fastapi import FastAPI

app = FastAPI()


@app.post("/v1/trace")
async def trace() -> dict[str, str]:
    return {"answer": "always the same"}
