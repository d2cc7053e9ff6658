"""What is used of peft, imported without bitsandbytes: 2 to 3 seconds of torch's compiler that only 4-bit models need.

peft does without bitsandbytes where it is not there. So it is not there while peft is imported, and afterwards peft is
made to look again: what it imports of bitsandbytes it then imports when a 4-bit layer asks for it.
"""

from __future__ import annotations

import sys

if "bitsandbytes" in sys.modules or "peft" in sys.modules:
    import peft
else:
    sys.modules["bitsandbytes"] = None  # type: ignore[assignment]  # Python's own word for: there is none
    try:
        import peft
    finally:
        del sys.modules["bitsandbytes"]
    from peft.import_utils import is_bnb_4bit_available, is_bnb_available

    is_bnb_available.cache_clear()
    is_bnb_4bit_available.cache_clear()

from peft.tuners.lora import LoraLayer
from peft.utils.integrations import dequantize_module_weight

LoraConfig, PeftModel, get_peft_model = peft.LoraConfig, peft.PeftModel, peft.get_peft_model

__all__ = ["LoraConfig", "LoraLayer", "PeftModel", "dequantize_module_weight", "get_peft_model"]
