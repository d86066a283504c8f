"""What items are labelled with: parts of genes, repeats, features, tracks, groups."""
