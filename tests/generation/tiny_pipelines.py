"""Tiny random pipelines made with the config classes of diffusers and transformers, saved as their own code saves."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch

WORDS = ["a", "red", "blue", "star", "moon", "umbrella", "above", "small", "cat"]


def _tokenizer(folder: Path, length: int = 16) -> Any:
    """Return a CLIP tokenizer of a few words, letter by letter; no merges are needed."""
    from transformers import CLIPTokenizer

    letters = [chr(97 + place) for place in range(26)]
    tokens = ["<|startoftext|>", "<|endoftext|>", *letters, *[f"{letter}</w>" for letter in letters]]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.json").write_text(json.dumps({token: place for place, token in enumerate(tokens)}))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    return CLIPTokenizer(str(folder / "vocab.json"), str(folder / "merges.txt"), model_max_length=length)


def _clip(width: int = 16, projection: bool = False, length: int = 16) -> Any:
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

    config = CLIPTextConfig(vocab_size=54, hidden_size=width, intermediate_size=32, num_hidden_layers=1,
                            num_attention_heads=2, max_position_embeddings=length, bos_token_id=0, eos_token_id=1,
                            projection_dim=width)
    return CLIPTextModelWithProjection(config) if projection else CLIPTextModel(config)


def _vae(channels: int = 4, shift: float | None = None) -> Any:
    from diffusers import AutoencoderKL

    return AutoencoderKL(block_out_channels=(8, 8), down_block_types=("DownEncoderBlock2D",) * 2, norm_num_groups=4,
                         up_block_types=("UpDecoderBlock2D",) * 2, latent_channels=channels, sample_size=32,
                         shift_factor=shift)


def _unet(**more: Any) -> Any:
    from diffusers import UNet2DConditionModel

    settings: dict[str, Any] = {
        "sample_size": 16, "block_out_channels": (8, 16), "layers_per_block": 1, "norm_num_groups": 4,
        "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D"), "cross_attention_dim": 16,
        "up_block_types": ("CrossAttnUpBlock2D", "UpBlock2D"), "attention_head_dim": 4}
    return UNet2DConditionModel(**{**settings, **more})


def stable_diffusion(folder: Path) -> Path:
    """Save a StableDiffusionPipeline of 32x32 pictures."""
    from diffusers import DDIMScheduler, StableDiffusionPipeline

    torch.manual_seed(0)
    StableDiffusionPipeline(vae=_vae(), text_encoder=_clip(), tokenizer=_tokenizer(folder.with_name("tokens")),
                            unet=_unet(), scheduler=DDIMScheduler(), safety_checker=None, feature_extractor=None,
                            requires_safety_checker=False).save_pretrained(folder)
    return folder


def checked(folder: Path, strict: bool) -> Path:
    """Save a StableDiffusionPipeline with a safety checker: one that holds everything back, or nothing."""
    from diffusers import StableDiffusionPipeline
    from diffusers.pipelines.stable_diffusion.safety_checker import StableDiffusionSafetyChecker
    from transformers import CLIPConfig, CLIPImageProcessor

    pipe = StableDiffusionPipeline.from_pretrained(stable_diffusion(folder.with_name("unchecked")))
    size = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    checker = StableDiffusionSafetyChecker(CLIPConfig(vision_config={**size, "image_size": 32, "patch_size": 8},
                                                      text_config=size, projection_dim=16))
    checker.concept_embeds_weights.fill_(-2.0 if strict else 2.0)  # thresholds of a cosine
    checker.special_care_embeds_weights.fill_(2.0)
    sizes = {"size": {"shortest_edge": 32}, "crop_size": {"height": 32, "width": 32}}
    StableDiffusionPipeline(**{**pipe.components, "safety_checker": checker,
                               "feature_extractor": CLIPImageProcessor(**sizes)}).save_pretrained(folder)
    return folder


def sdxl(folder: Path) -> Path:
    """Save a StableDiffusionXLPipeline."""
    from diffusers import EulerDiscreteScheduler, StableDiffusionXLPipeline

    torch.manual_seed(0)
    unet = _unet(cross_attention_dim=32, addition_embed_type="text_time", addition_time_embed_dim=8,
                 projection_class_embeddings_input_dim=6 * 8 + 16, transformer_layers_per_block=1)
    tokens = _tokenizer(folder.with_name("tokens"))
    StableDiffusionXLPipeline(vae=_vae(), text_encoder=_clip(), text_encoder_2=_clip(projection=True),
                              tokenizer=tokens, tokenizer_2=tokens, unet=unet,
                              scheduler=EulerDiscreteScheduler()).save_pretrained(folder)
    return folder


def sd3(folder: Path) -> Path:
    """Save a StableDiffusion3Pipeline without its third text encoder."""
    from diffusers import FlowMatchEulerDiscreteScheduler, SD3Transformer2DModel, StableDiffusion3Pipeline

    torch.manual_seed(0)
    transformer = SD3Transformer2DModel(sample_size=16, patch_size=2, in_channels=16, num_layers=1,
                                        attention_head_dim=8, num_attention_heads=2, joint_attention_dim=32,
                                        caption_projection_dim=16, pooled_projection_dim=32, out_channels=16)
    tokens = _tokenizer(folder.with_name("tokens"))
    StableDiffusion3Pipeline(transformer=transformer, scheduler=FlowMatchEulerDiscreteScheduler(), vae=_vae(16, 0.05),
                             text_encoder=_clip(projection=True), text_encoder_2=_clip(projection=True),
                             tokenizer=tokens, tokenizer_2=tokens, text_encoder_3=None,
                             tokenizer_3=None).save_pretrained(folder)
    return folder


def flux(folder: Path) -> Path:
    """Save a FluxPipeline; its second text encoder is a tiny T5."""
    from diffusers import FlowMatchEulerDiscreteScheduler, FluxPipeline, FluxTransformer2DModel
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast, T5Config, T5EncoderModel

    torch.manual_seed(0)
    words = Tokenizer(models.WordLevel({word: place for place, word in enumerate(["<pad>", "</s>", "<unk>", *WORDS])},
                                       unk_token="<unk>"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    words.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    t5_tokens = PreTrainedTokenizerFast(tokenizer_object=words, pad_token="<pad>", eos_token="</s>",
                                        unk_token="<unk>", model_max_length=64)
    t5 = T5EncoderModel(T5Config(vocab_size=16, d_model=16, d_kv=8, d_ff=16, num_layers=1, num_heads=2))
    transformer = FluxTransformer2DModel(patch_size=1, in_channels=16, num_layers=1, num_single_layers=1,
                                         attention_head_dim=16, num_attention_heads=2, joint_attention_dim=16,
                                         pooled_projection_dim=16, axes_dims_rope=(4, 4, 8))
    FluxPipeline(scheduler=FlowMatchEulerDiscreteScheduler(), vae=_vae(4, 0.05), text_encoder=_clip(),
                 tokenizer=_tokenizer(folder.with_name("tokens")), text_encoder_2=t5, tokenizer_2=t5_tokens,
                 transformer=transformer).save_pretrained(folder)
    return folder


def unconditional(folder: Path) -> Path:
    """Save a DDPMPipeline of 8x8 pictures."""
    from diffusers import DDPMPipeline, DDPMScheduler, UNet2DModel

    torch.manual_seed(0)
    unet = UNet2DModel(sample_size=8, block_out_channels=(8, 16), layers_per_block=1, norm_num_groups=4,
                       down_block_types=("DownBlock2D", "DownBlock2D"), up_block_types=("UpBlock2D", "UpBlock2D"))
    DDPMPipeline(unet, DDPMScheduler()).save_pretrained(folder)
    return folder


def lora(pipeline: Path, folder: Path) -> Path:
    """Save a LoRA for a StableDiffusionPipeline's U-Net in the layout of diffusers; strong enough to be seen."""
    from diffusers import StableDiffusionPipeline
    from diffusers.utils import convert_state_dict_to_diffusers
    from peft import LoraConfig, get_peft_model_state_dict

    pipe = StableDiffusionPipeline.from_pretrained(pipeline, local_files_only=True)
    pipe.unet.add_adapter(LoraConfig(r=4, lora_alpha=4, init_lora_weights=False, target_modules=["to_q", "to_v"]))
    for name, weight in pipe.unet.named_parameters():
        if "lora_" in name:
            torch.nn.init.normal_(weight, std=1.0)
    state = convert_state_dict_to_diffusers(get_peft_model_state_dict(pipe.unet))
    StableDiffusionPipeline.save_lora_weights(folder, unet_lora_layers=state)
    return folder / "pytorch_lora_weights.safetensors"
