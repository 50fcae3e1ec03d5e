"""What training pictures are pasted together of, drawn: characters of several families, and what is none."""
