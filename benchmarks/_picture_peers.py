"""The peers of images.py, each run in a process of its own; needs `diffusers` and `pythae`.

    python benchmarks/_picture_peers.py NAME TASK_FOLDER SEED MINUTES OUT_FOLDER '{"learning_rate": 0.001}'

Reads the pictures and sizes that images.py wrote, trains for MINUTES of wall clock and prints one JSON line; drawn
pictures go to OUT_FOLDER. The clock stands still while pictures are drawn or measured and starts after the first step.
"""

from __future__ import annotations

import json
import math
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from _train_peers import Watch, seconds_a_step
from numpy.typing import NDArray
from torch import Tensor

STEPS, FEW = 50, 8  # DDIM steps that are usual, and as many as ours takes
_AT_ONCE = 100


class Task:
    """What all contestants share: training and held-out pictures uint8 [n, C, H, W], sizes."""

    def __init__(self, folder: Path) -> None:
        self.facts: dict[str, Any] = json.loads((folder / "task.json").read_text())
        self.train = np.load(folder / "train.npy", allow_pickle=False)
        self.test = np.load(folder / "test.npy", allow_pickle=False)

    def __getattr__(self, name: str) -> Any:
        return self.facts[name]


def as_floats(pixels: NDArray[np.uint8]) -> Tensor:
    """Return uint8 as float32 in [-1, 1]."""
    return torch.from_numpy(pixels).float() / 127.5 - 1


def unet(size: int, channels: int, parameters: int) -> Any:
    """Return the UNet2DModel of the unconditional example's kind whose number of parameters is nearest to a given one.

    Two convolution blocks a level, attention at the last level but one (the last of two), 8 channels a head; two
    levels to 16 pixels, then three. The width of the first level (the others have twice that) is what is chosen.
    """
    from diffusers import UNet2DModel

    levels = 2 if size <= 16 else 3
    attention = 1 if levels == 2 else levels - 2
    down = ["AttnDownBlock2D" if level == attention else "DownBlock2D" for level in range(levels)]
    up = ["AttnUpBlock2D" if level == attention else "UpBlock2D" for level in reversed(range(levels))]

    def build(width: int) -> Any:
        return UNet2DModel(sample_size=size, in_channels=channels, out_channels=channels, layers_per_block=2,
                           block_out_channels=(width, *(2 * width,) * (levels - 1)), norm_num_groups=4,
                           down_block_types=tuple(down), up_block_types=tuple(up))

    def miss(width: int) -> float:
        with torch.device("meta"):
            return abs(math.log(sum(p.numel() for p in build(width).parameters()) / parameters))

    return build(min(range(4, 65, 4), key=miss))


def ddim(model: Any, count: int, steps: int, seed: int) -> NDArray[np.uint8]:
    """Draw pictures with the DDIM pipeline, uint8 [count, C, H, W]."""
    from diffusers import DDIMPipeline, DDIMScheduler

    pipeline = DDIMPipeline(unet=model, scheduler=DDIMScheduler(num_train_timesteps=1000, beta_schedule="linear"))
    pipeline.set_progress_bar_config(disable=True)
    rng = torch.Generator().manual_seed(seed)
    parts = [pipeline(batch_size=min(_AT_ONCE, count - first), num_inference_steps=steps, generator=rng,
                      output_type="np").images for first in range(0, count, _AT_ONCE)]
    return np.asarray(np.concatenate(parts).transpose(0, 3, 1, 2) * 255).round().astype(np.uint8)


def ddpm(task: Task, seed: int, minutes: float, out: Path, options: dict[str, Any]) -> dict[str, Any]:
    """Train as the diffusers example for unconditional pictures does: DDPM noise, AdamW, cosine, averaged weights.

    Empty options leave the example's settings (batch 16, rate 1e-4, 500 steps of warm-up). {"learning_rate": …} tunes
    it: that rate, our batch, 2 % of warm-up. {"points": …} says how often it draws; the task does otherwise.
    """
    from diffusers import DDPMScheduler, UNet2DModel
    from diffusers.optimization import get_scheduler
    from diffusers.training_utils import EMAModel

    torch.manual_seed(seed)
    rng, data = np.random.default_rng(seed), as_floats(task.train)
    tuned = "learning_rate" in options
    batch, peak = (task.batch, options["learning_rate"]) if tuned else (16, 1e-4)
    model = unet(task.size, task.channels, task.parameters)
    noise_scheduler = DDPMScheduler(num_train_timesteps=1000, beta_schedule="linear")
    optimizer = torch.optim.AdamW(model.parameters(), lr=peak, betas=(0.95, 0.999), weight_decay=1e-6, eps=1e-8)

    def average() -> Any:
        return EMAModel(model.parameters(), decay=0.9999, use_ema_warmup=True, inv_gamma=1.0, power=0.75,
                        model_cls=UNet2DModel, model_config=model.config)

    ema, schedule = average(), None

    def step() -> None:
        clean = data[torch.from_numpy(rng.integers(0, len(data), batch))]
        noise = torch.randn_like(clean)
        times = torch.randint(0, 1000, (batch,))
        out = model(noise_scheduler.add_noise(clean, noise, times), times).sample
        torch.nn.functional.mse_loss(out, noise).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        if schedule is not None:
            schedule.step()
        optimizer.zero_grad()
        ema.step(model.parameters())

    start = {name: value.clone() for name, value in model.state_dict().items()}
    steps = max(10, int(minutes * 60 / seconds_a_step(step)))
    model.load_state_dict(start)
    optimizer.state.clear()
    ema = average()
    schedule = get_scheduler("cosine", optimizer, num_warmup_steps=steps // 50 if tuned else min(500, steps // 2),
                             num_training_steps=steps)
    looked = 0.0

    def measure() -> float:
        nonlocal looked
        began = time.process_time()
        point = len(watch.curve)
        ema.store(model.parameters())
        ema.copy_to(model.parameters())
        model.eval()
        for steps in (STEPS, FEW):
            np.save(out / f"{point}-{steps}.npy", ddim(model, task.drawn, steps, seed))
        model.train()
        ema.restore(model.parameters())
        looked += time.process_time() - began
        return float(point)

    points = int(options.get("points", task.points))
    watch, done, began = Watch(minutes, points, measure), False, time.process_time()
    while not done:
        step()
        done = watch.step()
    watch.finish()
    return {"parameters": sum(p.numel() for p in model.parameters()), "seconds": watch.spent,
            "cpu_seconds": time.process_time() - began - looked, "images": watch.steps * batch, "curve": watch.curve,
            "settings": {"batch": batch, "learning_rate": peak, "steps": steps}}


def autoencoder(task: Task, seed: int, minutes: float, out: Path, options: dict[str, Any]) -> dict[str, Any]:
    """Train a pythae VAE by its own pipeline, stopped when the time is up.

    Empty options leave its defaults (Adam 1e-4, batch 64, error of unit variance on values from 0 to 1).
    {"learning_rate": …, "beta": …} takes its BetaVAE, whose beta is that variance.
    """
    from _pictures import bound
    from pythae.models import VAE, BetaVAE, BetaVAEConfig, VAEConfig
    from pythae.pipelines import TrainingPipeline
    from pythae.trainers import BaseTrainerConfig
    from pythae.trainers.training_callbacks import TrainingCallback

    class TimeUp(Exception):
        """The minutes are over."""

    class Clock(TrainingCallback):
        """Counts steps and ends the training."""

        began, cpu, steps = math.nan, 0.0, 0

        def on_train_step_end(self, training_config: Any, **kwargs: Any) -> None:
            if math.isnan(self.began):
                self.began, self.cpu = time.perf_counter(), time.process_time()
                return
            self.steps += 1
            if time.perf_counter() - self.began >= minutes * 60:
                raise TimeUp

    torch.manual_seed(seed)
    shape = {"input_dim": tuple(task.train.shape[1:]), "latent_dim": task.latent}
    model: Any = BetaVAE(BetaVAEConfig(**shape, beta=options["beta"])) if options else VAE(VAEConfig(**shape))
    config = BaseTrainerConfig(output_dir=str(out), num_epochs=1_000_000, seed=seed, no_cuda=True,
                               learning_rate=options.get("learning_rate", 1e-4))
    clock = Clock()
    try:
        TrainingPipeline(model=model, training_config=config)(
            torch.from_numpy(task.train).float() / 255, callbacks=[clock])
    except TimeUp:
        seconds, cpu = time.perf_counter() - clock.began, time.process_time() - clock.cpu
    model.eval()

    def encode(images: Tensor) -> tuple[Tensor, Tensor]:
        found = model.encoder((images + 1) / 2)
        return found.embedding, found.log_covariance

    def decode(codes: Tensor) -> Tensor:
        made: Tensor = 2 * model.decoder(codes).reconstruction - 1
        return made

    few = as_floats(task.train[:2000])
    variance = bound(encode, decode, few, 1.0)["noisy"]
    return {"parameters": sum(p.numel() for p in model.parameters()), "seconds": seconds, "cpu_seconds": cpu,
            "images": clock.steps * 64, **bound(encode, decode, as_floats(task.test), variance)}


if __name__ == "__main__":
    name, folder, seed, minutes, place, options = sys.argv[1:]
    run = {"ddpm": ddpm, "vae": autoencoder}[name]
    print("\n" + json.dumps(run(Task(Path(folder)), int(seed), float(minutes), Path(place), json.loads(options))))
