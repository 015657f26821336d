"""Sources: files or packages to labelled arrays, one file each; the file's name is the name in scenarios."""
