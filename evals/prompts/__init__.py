"""From a question to what a model is sent.

building       lm-eval's own task code makes the prompt; few-shot examples are never questions that are scored
chat_template  wraps messages in a tokenizer's chat template
requests       a question with its requests, and its form on disk
token_cache    token ids of contexts and continuations, made once for all candidates
"""
