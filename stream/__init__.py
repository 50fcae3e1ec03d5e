"""celstream: from animation and broadcast archives to characters."""
