"""In-silico mutagenesis: what every substitution and deletion of a region would mean to a model."""
