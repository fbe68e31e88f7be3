"""The description of the API: answers look as it says."""

from typing import Any

import pytest
from pydantic import BaseModel

from bottega.server import answers
from tests.server.running import Running
from tests.workshops import SmallWorkshop

CHAT: dict[str, Any] = {"messages": [{"role": "user", "content": "Where is my order?"}], "max_tokens": 4}


def test_answers_are_described(server: Running) -> None:
    paths = server.get("/openapi.json").json()["paths"]
    for path, method, name in (("chat/completions", "post", "ChatAnswer"), ("completions", "post", "CompletionAnswer"),
                               ("images/generations", "post", "PicturesAnswer"),
                               ("images/edits", "post", "PicturesAnswer"),
                               ("images/variations", "post", "PicturesAnswer"),
                               ("embeddings", "post", "EmbeddingsAnswer"), ("models", "get", "ModelsAnswer"),
                               ("models/{model}", "get", "ModelAnswer"), ("feedback", "post", "FeedbackAnswer"),
                               ("feedback", "get", "FeedbackList")):
        content = paths[f"/v1/{path}"][method]["responses"]["200"]["content"]
        assert name in str(content["application/json"]["schema"])
        assert ("text/event-stream" in content) == path.endswith(("completions", "generations", "edits"))
    form = paths["/v1/images/edits"]["post"]["requestBody"]["content"]["multipart/form-data"]["schema"]
    assert set(form["required"]) == {"image", "prompt"}
    assert form["properties"]["image"]["contentMediaType"] == "application/octet-stream"
    assert "image/png" in paths["/v1/images/files/{output_id}.png"]["get"]["responses"]["200"]["content"]


@pytest.mark.parametrize(("path", "body", "shape"), [
    ("chat/completions", CHAT, answers.ChatAnswer),
    ("chat/completions", {**CHAT, "n": 2, "logprobs": True, "top_logprobs": 2}, answers.ChatAnswer),
    ("completions", {"prompt": "The", "max_tokens": 4, "logprobs": 1}, answers.CompletionAnswer),
    ("images/generations", {"prompt": "a red circle", "n": 2}, answers.PicturesAnswer),
    ("images/generations", {"prompt": "", "response_format": "url"}, answers.PicturesAnswer),
    ("embeddings", {"input": ["a", "b"]}, answers.EmbeddingsAnswer),
    ("embeddings", {"input": "a", "encoding_format": "base64"}, answers.EmbeddingsAnswer),
])
def test_answers_look_as_described(server: Running, path: str, body: dict[str, Any], shape: type[BaseModel]) -> None:
    shape.model_validate(server.post(f"/v1/{path}", body).json(), strict=True)


def test_models_and_feedback_look_as_described(server: Running, small_workshop: SmallWorkshop) -> None:
    answers.ModelsAnswer.model_validate(server.get("/v1/models").json(), strict=True)
    answers.ModelAnswer.model_validate(server.get(f"/v1/models/{small_workshop.lm}").json(), strict=True)
    output = server.post("/v1/chat/completions", CHAT).json()["bottega"]["outputs"][0]
    thumb = {"kind": "thumb", "output": output, "value": 1}
    answers.FeedbackAnswer.model_validate(server.post("/v1/feedback", thumb).json(), strict=True)
    answers.FeedbacksAnswer.model_validate(server.post("/v1/feedback", [thumb]).json(), strict=True)
    answers.FeedbackList.model_validate(server.get("/v1/feedback").json(), strict=True)
