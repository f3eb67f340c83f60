"""The MLflow mirror: the only room that imports mlflow, and only when the first record comes.

The mirror is for people's eyes: the study's own store is the truth, from which the mirror can be made again, so a
fault here is told once and never stops a search.
"""

from experiments.tracking.mirror import MlflowMirror

__all__ = ["MlflowMirror"]
