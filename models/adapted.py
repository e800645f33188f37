"""A model of the transformers library behind the decoder's interface: its own code, our attention.

Its body runs over our flat stream of tokens with our positions, and where it attends, it calls back the `Attend` that
was handed in. So packing, shared prefixes, cached generation and exact KL are those of the native families. It is
slower: matrices are multiplied one by one, and bfloat16 goes through autocast.
Shapes: N tokens · D width · H heads · K key/value heads · E head width · V vocabulary.
"""

from __future__ import annotations

import contextlib
import copy
import functools
import math
from collections.abc import Iterator, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.architecture import Architecture
from models.decoder import Attend, Decoder
from models.failure import ModelError

ATTENTION = "prefbench"  # what our attention is called among those of transformers


@dataclass(frozen=True, kw_only=True)
class AdaptedArchitecture(Architecture):
    """Sizes as they were seen at work; what lies between them only transformers knows."""

    matrices: int  # entries of the body's matrices that a token passes through, routed experts by their share

    @property
    def body_weights(self) -> int:
        return self.matrices


class Adapted(Decoder):
    """A decoder whose blocks are transformers' own."""

    def __init__(self, model: Any, architecture: AdaptedArchitecture, *, scale: float = 1.0) -> None:
        """`model` has its LM head; `scale` is what it multiplies its logits by."""
        nn.Module.__init__(self)  # none of the native parts are built
        self.architecture, self.scale = architecture, scale
        self.body = body_of(model)
        self.untied_head = None if architecture.tied else model.get_output_embeddings()
        self.head_gradient = None
        self.whole = (model,)  # for saving; in a tuple, so that only what is above is trained

    @property
    def head(self) -> Tensor:
        """The LM head, (V, D); its bias, where it has one, as one more column, (V, D + 1)."""
        if self.untied_head is None:
            weight: Tensor = self.body.get_input_embeddings().weight
            return weight
        weight, bias = self.untied_head.weight, self.untied_head.bias
        return weight if bias is None else torch.cat((weight, bias[:, None].to(weight.dtype)), dim=1)

    @property
    def device(self) -> torch.device:
        device: torch.device = self.body.get_input_embeddings().weight.device
        return device

    def forward(
        self, tokens_N: Tensor, positions_N: Tensor, attend: Attend, *, dtype: torch.dtype, keep: Sequence[int] = ()
    ) -> tuple[Tensor, list[Tensor]]:
        """Final normed hidden states (N, D), and the residual stream after each block in `keep`; both float32.

        A head with a bias gets hidden states of (N, D + 1), the last of them one.
        """
        assert tokens_N.shape == positions_N.shape
        with _kept(blocks_of(self.body), keep) as kept:
            x_ND = run_body(self.body, tokens_N, positions_N, attend, dtype)
        x_ND = x_ND * self.scale if self.scale != 1 else x_ND
        if self.untied_head is not None and self.untied_head.bias is not None:
            x_ND = F.pad(x_ND, (0, 1), value=1.0)
        return x_ND, [kept[layer] for layer in sorted(kept)]

    def hollow(self) -> Adapted:
        """The same module without weights (on the meta device): `load_state_dict(…, assign=True)` gives it others.

        What the model computes once, such as rotary frequencies, is no weight, and stays.
        """
        kept = {id(p): p for p in self.whole[0].parameters()}  # what is not trained, such as a vision tower
        meta = {id(p): nn.Parameter(torch.empty_like(p, device="meta"), False) for p in self.parameters()}
        return copy.deepcopy(self, kept | meta)

    def in_dtype(self, dtype: torch.dtype) -> Adapted:
        """A frozen copy with its matrices already in `dtype`: same numbers as casting at each use, half the reading.

        Experts' stacked matrices stay as they are, as autocast leaves them.
        """
        twin = copy.deepcopy(self).requires_grad_(False)
        matrix = twin.untied_head or nn.Linear(1, 1, bias=False, device="meta")
        matrix.weight = nn.Parameter(self.head_matrix.detach().to(dtype), requires_grad=False)
        looked_up = {id(m.weight) for m in twin.body.modules() if isinstance(m, nn.Embedding)}
        for parameter in twin.body.parameters():
            if parameter.ndim == 2 and id(parameter) not in looked_up:
                parameter.data = parameter.data.to(dtype)
        twin.untied_head = matrix
        return twin

    @property
    def head_matrix(self) -> Tensor:
        """The LM head without its bias, (V, D)."""
        return self.head if self.untied_head is None else self.untied_head.weight


def write_adapted(adapted: Adapted, folder: Path, dtype: torch.dtype) -> None:
    """Write config.json and safetensors as transformers does; no tokenizer."""
    (model,) = copy.deepcopy(adapted.whole)
    if adapted.untied_head is None:
        model.get_output_embeddings().weight = model.get_input_embeddings().weight
    with quiet():
        try:
            model.to(dtype).save_pretrained(folder)
        except (OSError, RuntimeError) as error:
            raise ModelError(f"{folder} cannot be written ({error}): make room, then run again") from error


class _Stream(NamedTuple):
    """What attention is to do in the forward pass that is under way."""

    attend: Attend
    dtype: torch.dtype


_STREAM: ContextVar[_Stream] = ContextVar("stream")


def run_body(body: Any, tokens_N: Tensor, positions_N: Tensor, attend: Attend, dtype: torch.dtype) -> Tensor:
    """The body's last hidden states over a stream of tokens, (N, D) float32."""
    under_way = _STREAM.set(_Stream(attend, dtype))
    try:
        with torch.autocast(tokens_N.device.type, dtype=dtype, enabled=dtype != torch.float32):
            out = body(input_ids=tokens_N[None], position_ids=positions_N[None], use_cache=False)
    finally:
        _STREAM.reset(under_way)
    hidden_1ND: Tensor = out.last_hidden_state
    return hidden_1ND[0].float()


def attention(
    module: Any, query_1HNE: Tensor, key_1KNE: Tensor, value_1KNV: Tensor, mask: Tensor | None, **said: Any
) -> tuple[Tensor, None]:
    """What transformers calls for each layer: the stream's own attention, with the model's scaling folded in."""
    kind = type(module).__name__
    for name in ("softcap", "s_aux", "position_bias"):
        if said.get(name) is not None:
            raise ModelError(f"{kind} attends with {name}, which cannot be computed on packed texts: use another model")
    if mask is not None:
        raise ModelError(f"{kind} masks in its own way, which cannot be done on packed texts: use another model")
    stream, width, kept = _STREAM.get(), query_1HNE.shape[-1], value_1KNV.shape[-1]
    if kept > width:
        raise ModelError(f"{kind} has values of width {kept} and keys of {width}: use another model")
    query_NHE, key_NKE, value_NKV = (x[0].transpose(0, 1) for x in (query_1HNE, key_1KNE, value_1KNV))
    scaling = said.get("scaling")
    if scaling is not None and not math.isclose(scaling, width**-0.5, rel_tol=1e-9):
        query_NHE = query_NHE * (scaling * math.sqrt(width))
    value_NKE = F.pad(value_NKV, (0, width - kept)) if kept < width else value_NKV
    q, k, v = (x.to(stream.dtype) for x in (query_NHE, key_NKE, value_NKE))
    out_NHE = stream.attend(module.layer_idx, q, k, v)
    return out_NHE[None, ..., :kept], None


def body_of(model: Any) -> Any:
    """What reads text: the whole model without its head, or the part of it that is no vision or audio tower."""
    return model.get_decoder() if hasattr(model, "get_decoder") else model.base_model


def blocks_of(body: Any) -> nn.ModuleList:
    """The model's blocks: the outermost list of as many modules as it says to have layers."""
    depth = body.config.get_text_config().num_hidden_layers
    for module in body.modules():
        if isinstance(module, nn.ModuleList) and len(module) == depth:
            return module
    raise ModelError(f"{type(body).__name__} has no list of {depth} blocks: use another model")


@contextlib.contextmanager
def _kept(blocks: nn.ModuleList, layers: Sequence[int]) -> Iterator[dict[int, Tensor]]:
    """While entered, a forward pass leaves what these blocks give, (N, D) float32 by layer."""
    kept: dict[int, Tensor] = {}

    def keep(layer: int, module: nn.Module, given: Any, out: Any) -> None:
        x_1ND: Tensor = out if isinstance(out, Tensor) else out[0]
        kept[layer] = x_1ND[0].float()

    hooks = [blocks[layer].register_forward_hook(functools.partial(keep, layer)) for layer in set(layers)]
    try:
        yield kept
    finally:
        for hook in hooks:
            hook.remove()


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """No bars and no advice of transformers: what matters is checked."""
    from transformers import utils

    logging: Any = utils.logging  # it leaves these untyped
    before, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(before)
        if bars:
            logging.enable_progress_bar()
