"""What the pixels of a label mean: classes, taxonomies, masks, train ids."""
