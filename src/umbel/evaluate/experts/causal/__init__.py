"""What experts do: the loss when one is knocked out, two are swapped, or the routes of another checkpoint are taken."""
