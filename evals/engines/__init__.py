"""Engines: lm-eval models that answer requests with the weights that a model in memory holds.

registry  the names of the engines; makes one on a model and tells it when the weights change
live/     ours: prompts' common beginnings are computed once
vllm      a running vLLM engine that takes the live model's weights
common/   lm-eval's own HFLM, the third engine, and what the live one takes from it
"""
