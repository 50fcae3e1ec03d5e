"""Features that are computed, not learned."""
