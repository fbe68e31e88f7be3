"""Judges that were trained before, kept by what they were trained on; `bottega evaluate MODEL` asks for one.

The same eyes for every model of a dataset make their scores comparable, and a second look costs no training. One
safetensors file a judge, written whole; a file that cannot be read is made again.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch
from numpy.typing import ArrayLike
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from bottega.core.files import digest_json, write_atomic
from bottega.core.lineage import code_digest
from bottega.core.progress import say, timed
from bottega.evaluation.picture_features import Judge, train_judge
from bottega.evaluation.picture_network import WIDTH, Network, Projection
from bottega.evaluation.picture_prompts import Labels

_CENTRE, _BASIS = "judge.centre", "judge.basis"


def kept_judge(folder: Path, data: str, pictures: ArrayLike, labels: Labels | None,
               held_out: tuple[ArrayLike, Labels] | None) -> Judge:
    """Return the judge of a dataset: the kept one, or one trained now and kept.

    Args:
        folder: where judges are kept.
        data: digest of the pictures, their labels and the split.
        pictures, labels, held_out: as in `train_judge`, looked at only when there is no judge yet.

    Raises:
        DataError, InputError: as in `train_judge`.
        ResourceError: the disk is full.
    """
    path = folder / f"{digest_json([data, labels is not None, code_digest()])[:16]}.safetensors"
    if path.is_file():
        try:
            return load_judge(path)
        except (SafetensorError, OSError, KeyError, ValueError, RuntimeError) as error:
            say(f"warning: the judge in {path} cannot be read and is trained again: {error}")
    with timed("training a judge of these pictures"):
        judge = train_judge(pictures, labels, held_out=held_out)
    save_judge(judge, path)
    return judge


def save_judge(judge: Judge, path: Path) -> None:
    """Write a judge atomically.

    Raises:
        ResourceError: the disk is full.
    """
    facts = {"questions": judge.questions, "shape": list(judge.shape), "bar": judge.bar, "accuracy": judge.accuracy}
    tensors = {name: tensor.contiguous() for name, tensor in judge.network.state_dict().items()}
    tensors |= {_CENTRE: torch.from_numpy(judge.centre), _BASIS: torch.from_numpy(np.ascontiguousarray(judge.basis))}
    write_atomic(path, save(tensors, {"judge": json.dumps(facts)}))


def load_judge(path: Path) -> Judge:
    """Read what `save_judge` wrote.

    Raises:
        SafetensorError, OSError, KeyError, ValueError, RuntimeError: the file is not a whole judge.
    """
    with safe_open(path, "pt") as file:
        facts = json.loads(file.metadata()["judge"])
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  (not a dict)
    centre, basis = tensors.pop(_CENTRE).numpy(), tensors.pop(_BASIS).numpy()
    questions: dict[str, list[str]] = facts["questions"]
    network: Network | Projection
    if questions:
        sizes = {question.rpartition(" ")[2]: len(answers) for question, answers in questions.items()}
        network = Network(facts["shape"], list(questions), sizes, WIDTH)
        network.load_state_dict(tensors)
    else:
        network = Projection(tensors["directions"])
    judge = Judge(network.eval(), questions, facts["shape"], facts["bar"])
    judge.accuracy, judge.centre, judge.basis = facts["accuracy"], centre, basis
    return judge
