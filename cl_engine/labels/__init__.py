"""Label functions: views of a source's inputs, one file each; the file's name is the view's."""
