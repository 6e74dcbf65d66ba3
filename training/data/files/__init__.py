"""Files of a data set: how they are found, paired, listed, split and known again."""
