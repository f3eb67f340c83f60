"""lm_eval_files."""
