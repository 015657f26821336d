"""Networks, one file each; the file's name is the name in scenarios. Each ends with an ``nn.Linear``, its head."""
