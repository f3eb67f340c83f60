"""What several engines take from lm-eval's own model.

hflm  lm-eval's HFLM on a live model, its longest input, and which settings of a generation are plainly greedy
"""
