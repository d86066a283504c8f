"""Files that genome browsers open: bigWig, bedGraph, BED, called features, and a page that shows them."""
