"""Networks, one file each, whose name is the name in scenarios. Each ends with an ``nn.Linear``, its head."""
