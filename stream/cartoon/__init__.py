"""Procedural cartoon episodes with exact truth, for the demo, the tests, the benchmarks and training.

`characters` draws sprites, `backgrounds` paints sets, `script` and `episode` make films of them, `write`
encodes those with their labels. The same seed gives the same pixels.
"""
