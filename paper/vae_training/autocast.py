"""Whether bfloat16 pays on this machine: without it, autocast on a processor is up to 60 times slower."""

import torch

BFLOAT16 = ("avx512_bf16", "amx_bf16", "bf16", "sve_bf16")  # instructions, as torch names them on x86 and on ARM


def autocast_refusal(device: torch.device) -> str | None:
    """Why training in bfloat16 is not worth it on `device`, a sentence; None where it is."""
    if device.type == "cuda":
        return None if torch.cuda.is_bf16_supported() else "this GPU has no bfloat16."
    if device.type != "cpu":
        return None
    if not hasattr(torch.cpu, "get_capabilities"):
        return "this version of torch does not say whether the processor has bfloat16; a newer one does."
    has = torch.cpu.get_capabilities()
    if any(has.get(name) for name in BFLOAT16):
        return None
    return "this processor has no bfloat16 instructions, so it would be slower."
