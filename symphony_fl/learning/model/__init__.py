"""The base model and its adapter.

base_model.py        frozen weights, named by their digest; model_check.py, model_cache.py
adapters.py          the trainable part as one flat vector; core_adapter.py: `lora_sb`; lean_peft.py: our part of peft
forward.py           which forward pass a model takes; llama_forward.py: the plain one
tiny.py              the embedded model (warm_start.py: how it is made); smollm2.py: a real one from a package
quantization.py      base models in 4 bit
"""
