"""Scenes: pictures of solids in a room, or of vehicles from above, ray-cast with everything that is true of them."""
