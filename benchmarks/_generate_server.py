"""A plain chat server of `transformers.generate`, what most write first: python _generate_server.py MODEL PORT."""

import asyncio
import json
import sys
import threading
from collections.abc import AsyncIterator
from typing import Any

import torch
import uvicorn
from fastapi import Body, FastAPI
from fastapi.responses import StreamingResponse
from starlette.concurrency import iterate_in_threadpool
from transformers import AutoModelForCausalLM, AutoTokenizer, TextIteratorStreamer

app = FastAPI()
tokenizer = AutoTokenizer.from_pretrained(sys.argv[1])
model = AutoModelForCausalLM.from_pretrained(sys.argv[1], dtype=torch.float32).eval()
turn = asyncio.Lock()  # generate is not made for several requests at once


async def events(body: dict[str, Any]) -> AsyncIterator[str]:
    inputs = tokenizer.apply_chat_template(body["messages"], add_generation_prompt=True, return_tensors="pt",
                                           return_dict=True)
    streamer = TextIteratorStreamer(tokenizer, skip_prompt=True, skip_special_tokens=True)
    made: list[int] = []

    def generate() -> None:
        torch.manual_seed(body["seed"])
        found = model.generate(**inputs, streamer=streamer, do_sample=True, temperature=body["temperature"], top_k=0,
                               top_p=1.0, max_new_tokens=body["max_tokens"])
        made.append(found.shape[1] - inputs["input_ids"].shape[1])

    async with turn:
        thread = threading.Thread(target=generate)
        thread.start()
        async for text in iterate_in_threadpool(streamer):
            yield "data: " + json.dumps({"choices": [{"index": 0, "delta": {"content": text}}]}) + "\n\n"
        thread.join()
    usage = {"completion_tokens": made[0]}
    yield "data: " + json.dumps({"choices": [], "usage": usage}) + "\n\ndata: [DONE]\n\n"


@app.post("/v1/chat/completions")
def chat(body: dict[str, Any] = Body()) -> StreamingResponse:
    return StreamingResponse(events(body), media_type="text/event-stream")


uvicorn.run(app, port=int(sys.argv[2]), log_level="error")
