"""What the latents of a pipeline will look like, without decoding them at every step; part of backends/diffusers.py.

Decoding takes as long as a step or longer. A linear map from a latent's channels to a colour shows enough to see a
picture grow; it is fitted once, by decoding one small latent.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from bottega.codecs.pixels import Pixels

_PLACES = 16  # a side of the latent that the map is fitted to


class Preview:
    """The map of one pipeline.

    Args:
        pipeline: with a `vae`; without one its latents are pixels already.
    """

    def __init__(self, pipeline: Any) -> None:
        self._pipeline = pipeline
        self._vae: Any = getattr(pipeline, "vae", None)
        self._map: Tensor | None = None

    @torch.inference_mode()
    def frame(self, latents: Any, shape: tuple[int, int]) -> Pixels | None:
        """Return a preview uint8 [3 or 1, H, W] of the first of the latents; None where they cannot be read.

        Args:
            latents: [B, C, h, w], or [B, places, C] as Flux packs them.
            shape: height and width of the preview.
        """
        if not isinstance(latents, Tensor):
            return None
        if latents.dim() == 3 and hasattr(self._pipeline, "_unpack_latents"):
            latents = self._pipeline._unpack_latents(latents, *shape, self._pipeline.vae_scale_factor)
        if latents.dim() != 4 or (self._vae is None and latents.shape[1] not in (1, 3)):
            return None
        seen = latents[:1].float()
        if self._vae is not None:
            weights = self._fitted(latents.shape[1], latents.device)
            ones = torch.ones_like(seen[:, :1])
            seen = torch.einsum("bchw,cr->brhw", torch.cat((seen, ones), 1), weights)
        pixels = F.interpolate(seen.add(1).mul(127.5).nan_to_num(127.5).clamp(0, 255), shape, mode="nearest")
        frame: Pixels = np.ascontiguousarray(pixels[0].round().to("cpu", torch.uint8).numpy())
        return frame

    def _fitted(self, channels: int, device: torch.device) -> Tensor:
        """Return [channels + 1, 3]: least squares from scaled latents to the colours they are decoded to."""
        if self._map is None:
            vae, chance = self._vae, torch.Generator().manual_seed(0)
            smooth = F.interpolate(torch.randn(1, channels, 4, 4, generator=chance), (_PLACES, _PLACES),
                                   mode="bilinear").to(device)
            scale, shift = vae.config.scaling_factor, getattr(vae.config, "shift_factor", None) or 0.0
            colours = vae.decode((smooth / scale + shift).to(vae.dtype)).sample.float()
            colours = F.interpolate(colours[:, :3].expand(-1, 3, -1, -1), (_PLACES, _PLACES), mode="area")
            known = torch.cat((smooth, torch.ones_like(smooth[:, :1])), 1).flatten(2)[0].T
            self._map = torch.linalg.lstsq(known.cpu(), colours.flatten(2)[0].T.cpu()).solution.to(device)
        return self._map
