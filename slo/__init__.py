"""The objectives of the policies, and how each stands."""
