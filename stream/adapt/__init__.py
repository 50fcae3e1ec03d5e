"""Adaptation to the show at hand, without labels: of the embedding (``embedding``, in a run ``step``) and of
the detector (``detector``). Both are kept only where a signal on held-out material of the show rises."""
