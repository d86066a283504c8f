"""Biology without torch: sequence, intervals, FASTA and annotation."""
