"""What `celstream engines` does: pictures to try engines with, their comparison, and what is kept."""
