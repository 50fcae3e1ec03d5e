"""Adapting the character detector to one show, without labels, on a CPU in minutes.

``teacher`` sees the show through several views and along time, ``pseudo`` turns what it is sure of into
labels, ``signal`` measures a detector on windows that were not trained on, ``course`` trains and decides.
"""
