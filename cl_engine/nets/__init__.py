"""Networks, one file each, whose name is the name in scenarios. Each ends with its head, ``nn.Linear`` or a 1×1 ``nn.Conv2d``."""
