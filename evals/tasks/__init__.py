"""Tasks of lm-eval, from a name to rows.

lm_eval_setup  what must be right in the process first: offline switches, nltk's data, seeds
index          finds the task files that a name needs, without importing lm-eval
local_data     turns a task's file to rows in a folder
loading        loads tasks with their rows: from the hub, a folder, or the embedded ones
metrics        names of metrics, and the two likelihood metrics of our own
availability   which tasks of a list have their data; one error names all that is missing
cached         what an earlier start knew of tasks, so that they are opened late
question_sets  a question by its content, and the three sets of a study
sampling       draws the sets from a seed
"""
