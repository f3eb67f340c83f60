"""Files in lm-eval's formats, so that tools that read lm-eval's read ours.

results_file   the results document: scores of leaves and groups, versions, settings of tasks
run_document   the same with what lm-eval writes beside it about the model and the run
samples_file   one line per question: prompt, answers, metrics
reference_run  task files and ``simple_evaluate``, the run that benchmarks measure us against
"""
