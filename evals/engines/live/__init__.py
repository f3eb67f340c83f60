"""The live engine: scores a transformers model whose weights change from call to call.

What happens to the requests of a call, in order:

engine            lm-eval's interface: requests in, log-likelihoods and texts out; falls back to HFLM
prefix_tree       token ids become a tree, and the tree a plan in which shared tokens are computed once
scoring_plan      the plan itself: passes, what they share, what is read from them; no weight is known yet
pass_budget       how many tokens a pass may have, from free memory
forward_passes    runs a plan's passes on the model and reads log-likelihoods from the logits
prefix_cache      keys and values of prefixes that later calls with the same weights begin with
generation        continues prompts greedily, many at a time
kv_slots          keys and values of the texts being generated
prompt_lookup     guesses a text's next tokens from its past, so that one pass checks several
backward          the same passes, differentiable: an objective of log-likelihoods and its gradient by the weights
packed_row        all passes of a plan side by side, so that a backward pass meets each weight once
packed_attention  the attention of such a row, with its exact gradient
token_likelihood  log-probabilities of tokens and their gradient, some rows of logits at a time
weight_products   hands over the gradients of weights one at a time, or their products with low-rank matrices
layer_checkpoints what a backward pass keeps, and layers that keep their inputs only
shared_attention  the attention of all these passes, registered with transformers
fused_attention   torch's fused attention with its normaliser, forward and backward, and the formula
onednn_linear     matrix products through oneDNN where that is faster
"""
