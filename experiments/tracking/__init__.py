"""The MLflow mirror of a study: for people's eyes only, and the one package that imports mlflow.

The study's own store is the truth, from which the mirror can be made again, so a fault here is told once and never
stops a search. What happens in which order:

address       decides where: the study's word, MLflow's environment variables, a file in the current folder
mirror        `MlflowMirror`: one experiment per study, one run for the study, a child run per scoring
mlflow_store  opens the store and finds, or begins, the study's experiment and run
mirror_index  a file beside the study that says which records MLflow holds, since asking MLflow is slow
entries       what of a record goes into a run: parameters, metrics, tags, its questions as data sets
names         names and batches as MLflow takes them
"""
