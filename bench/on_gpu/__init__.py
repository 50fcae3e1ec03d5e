"""The parts of ``bench/gpu.py``, one per station, each of which says what it cannot run and why."""
