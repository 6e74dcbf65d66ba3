"""How libraries name and write the networks that are known here, one library and family a file."""
