"""How close a picture stays to its original, and how visible a change is."""
