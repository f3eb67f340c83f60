"""From answers to scores.

results      answers question by question, the scores made of them, and what they cost
aggregation  lm-eval's aggregation: of a leaf, of a group, of bits over a corpus
statistics   two models on the same questions: interval, exact tests, power
"""
