"""F, what people write by hand: FastAPI, pydantic in and out, a `Depends` bearer check and a `StreamingResponse`."""

import hmac
import json
import os
import time
from collections.abc import AsyncIterator
from typing import Annotated, Any

from fastapi import Depends, FastAPI, HTTPException
from fastapi.responses import StreamingResponse
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from pydantic import BaseModel, Field

EVENTS = 200
KEY = os.environ.get("BENCHMARK_KEY", "").encode()
bearer = HTTPBearer()


class InvokeRequest(BaseModel):
    """What an agent is asked."""

    prompt: str = Field(min_length=1)
    thread_id: str | None = None
    metadata: dict[str, Any] = Field(default_factory=dict)


class InvokeReply(BaseModel):
    """What it answers: Locus's six fields."""

    message: str
    success: bool
    stop_reason: str
    iterations: int
    tool_calls: int
    duration_ms: float


async def check_key(credentials: Annotated[HTTPAuthorizationCredentials, Depends(bearer)]) -> None:
    """Let the request in, or answer 401."""
    if not hmac.compare_digest(credentials.credentials.encode(), KEY):
        raise HTTPException(status_code=401, detail="Unauthorized")


async def echo(prompt: str) -> str:
    """The agent."""
    return prompt


async def words() -> AsyncIterator[str]:
    """The streaming agent's events, as SSE frames."""
    for number in range(1, EVENTS + 1):
        yield f"data: {json.dumps({'type': 'model_chunk', 'content': f'word {number} '})}\n\n"
    yield f"data: {json.dumps({'type': 'done', 'message': 'words', 'reason': 'complete'})}\n\n"
    yield "data: [DONE]\n\n"


app = FastAPI(title="Plain FastAPI")


@app.get("/health/live")
async def live() -> dict[str, str]:
    """Whether the server answers."""
    return {"status": "ok"}


@app.post("/invoke", dependencies=[Depends(check_key)])
async def invoke(request: InvokeRequest) -> InvokeReply:
    """Run the agent and answer with its message."""
    started = time.perf_counter()
    message = await echo(request.prompt)
    duration = (time.perf_counter() - started) * 1000
    return InvokeReply(
        message=message, success=True, stop_reason="complete", iterations=1, tool_calls=0, duration_ms=duration
    )


@app.post("/stream", dependencies=[Depends(check_key)])
async def stream(request: InvokeRequest) -> StreamingResponse:
    """Run the streaming agent and send its events as they come."""
    return StreamingResponse(words(), media_type="text/event-stream", headers={"Cache-Control": "no-store"})
